"""Told to stop while plans are built: the build ends at once, with no process and no half of a plan left behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedge import AsyncEmbedder, Embedder, RuntimeConfig, Unavailable
from embedge.backends.tensorrt.plans import build
from embedge.backends.tensorrt.plans.process import Process
from embedge.cancel import CancelToken
from tests.servers import SERVE
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt import Troubles
from tests.tiny import tiny_bundle, tiny_repository

_ = simulate
SITE = Path(__file__).parents[1] / "simulated" / "site"
LONG = 60.0
QUICK = RuntimeConfig(lanes=1, warm_up_seconds=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plans of this test, which are built until somebody stops it."""
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps({"providers": ["cuda-python"], "tensorrt": "11.4.0"}))
    monkeypatch.setenv("EMBEDGE_SIMULATED_TROUBLES", Troubles(endless=True).to_json())
    return tmp_path / "cache" / "plans"


@pytest.fixture
def building(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The children that build, and in this process the libraries that they build for."""
    simulate("cuda-python", tensorrt="11.4.0")
    made: list[Process] = []

    class Seen(Process):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(build, "Process", Seen)
    return made


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a child says that it builds."""
    event = threading.Event()
    real = build.Builder.__init__

    def hearing(self: build.Builder, store: object, hear: object, **kwargs: object) -> None:
        real(self, store, lambda message: event.set(), **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(build.Builder, "__init__", hearing)
    return event


def nothing_is_left(cache: Path) -> None:
    assert {path.name for path in cache.rglob("*") if path.is_file()} <= {"build.lock"}


def children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


def test_a_server_that_is_told_to_stop_builds_no_further(tmp_path: Path, cache: Path) -> None:
    engines = tiny_repository(tmp_path / "engines", "one", "two")
    command = [*SERVE, str(engines), "--port", "0", "--drain-seconds", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            while "building its plan" not in (line := server.stderr.readline()):
                assert line, "it ended before it built"
            (child,) = children(server.pid)
            server.terminate()
            out, log = server.communicate(timeout=LONG)
        finally:
            server.kill()
    assert (server.returncode, out) == (0, ""), log
    assert "models were not opened: opening was cancelled" in log
    assert "Traceback" not in log
    assert "passed over" not in log, "no other backend is tried, for nobody"
    assert not Path(f"/proc/{child}").exists()
    nothing_is_left(cache)


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_an_embedder_is_not_opened_by_another_backend_instead(
    tmp_path: Path, cache: Path, building: list[Process], begun: threading.Event, backend: str
) -> None:
    path, cancel = tiny_bundle(tmp_path / "tiny"), CancelToken()
    config = RuntimeConfig(lanes=1, warm_up_seconds=0, backend=backend)
    with ThreadPoolExecutor(1) as opener:
        opened = opener.submit(Embedder.open, path, config=config, cancel=cancel)
        assert begun.wait(LONG)
        cancel.cancel()
        with pytest.raises(Unavailable, match="was cancelled"):
            opened.result(LONG)
    (child,) = building
    assert child._process.returncode is not None
    nothing_is_left(cache)


async def test_a_cancelled_task_ends_the_build(
    tmp_path: Path, cache: Path, building: list[Process], begun: threading.Event
) -> None:
    opening = asyncio.ensure_future(AsyncEmbedder.open(tiny_bundle(tmp_path / "tiny"), config=QUICK))
    assert await asyncio.to_thread(begun.wait, LONG)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.get_running_loop().shutdown_default_executor()  # the thread that opened has ended
    (child,) = building
    assert child._process.returncode is not None
    nothing_is_left(cache)


def test_who_listens_late_hears_it_at_once_and_who_is_done_never() -> None:
    cancel, heard = CancelToken(), []
    with cancel.on_cancel(lambda: heard.append("early")):
        cancel.check()
    cancel.cancel()
    with cancel.on_cancel(lambda: heard.append("late")):
        assert heard == ["late"]
    with pytest.raises(Unavailable, match="opening was cancelled"):
        cancel.check()
