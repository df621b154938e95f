"""Two processes that want the same plan: one builds, the other waits and finds it, or builds if the first died."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedge import Bundle, RuntimeConfig
from embedge.backends.tensorrt.plans.build import Builder
from embedge.backends.tensorrt.plans.lock import hold
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.backends.tensorrt.plans.timing import TimingCache
from embedge.errors import Unavailable
from tests.runtime.plans.made import builder, key, keys
from tests.structure.code import ROOT

CONFIG = RuntimeConfig()


class Waiting:
    """A cancel event that does something when it is first waited for: the lock is then known to be another's."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self.act = act
        self.waits = 0

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        self.waits += 1
        return self.act() if self.waits == 1 else False


@contextmanager
def neighbour(store: PlanStore, bundle: Bundle, act: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that is building, and waits before it goes on."""
    command = [sys.executable, "-m", "tests.runtime.plans.neighbour", str(bundle.path), str(store.root), act]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "building\n"
            yield process
        finally:
            process.kill()


def waiting(made: Builder, act: Callable[[], object]) -> Waiting:
    """Let something be done once a builder waits."""
    hook = Waiting(lambda: bool(act()))
    made._cancelled = hook  # type: ignore[assignment]
    return hook


def test_one_builds_and_the_other_finds_it(store: PlanStore, bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with neighbour(store, bundle, "build") as other:

        def go_on() -> None:
            other.communicate("\n")

        made = builder(store, text="die:3")
        hook = waiting(made, go_on)
        plan = made.build(bundle, keys(), CONFIG)["text"]

    assert plan.read() == b"plan of text"
    assert hook.waits == 1
    assert f"another process is building plans (process {other.pid}): waiting" in caplog.text


def test_the_lock_of_a_builder_that_was_killed_is_free(store: PlanStore, bundle: Bundle) -> None:
    with neighbour(store, bundle, "hang") as other:
        assert list(store.root.glob("drafts/*"))

        def kill() -> None:
            other.kill()
            other.wait()

        made = builder(store)
        waiting(made, kill)
        plan = made.build(bundle, keys(), CONFIG)["text"]

    assert plan.read() == b"plan of text"
    assert not list(store.root.glob("drafts/*"))


def test_waiting_can_be_cancelled(store: PlanStore, bundle: Bundle) -> None:
    with neighbour(store, bundle, "hang"):
        made = builder(store)
        waiting(made, lambda: True)
        with pytest.raises(Unavailable, match="another process was building"):
            made.build(bundle, keys(), CONFIG)


def test_a_lock_is_free_after_its_block(tmp_path: Path) -> None:
    cancel = threading.Event()
    for _ in range(2):
        with (tmp_path / "lock").open("a+") as file, hold(file, cancel):
            pass


def test_a_lock_is_held_within_its_block(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with (tmp_path / "lock").open("a+") as file, hold(file, cancel), (tmp_path / "lock").open("a+") as again:
        second = hold(again, cancel)
        with pytest.raises(Unavailable):
            second.__enter__()


def test_timing_caches_are_merged(tmp_path: Path) -> None:
    cache, never = TimingCache(tmp_path / "timing", key()), threading.Event()
    assert cache.read() == b""
    for more in (b"a", b"b"):
        cache.merge(lambda kept, more=more: kept + more, never)  # type: ignore[misc]

    assert TimingCache(tmp_path / "timing", key("another")).read() == b"ab"
    assert TimingCache(tmp_path / "timing", key(tensorrt="11")).read() == b""


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 64])
def test_a_damaged_timing_cache_costs_time_only(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache, never = TimingCache(tmp_path, key()), threading.Event()
    cache.file.write_bytes(content)

    assert cache.read() == b""
    assert "building takes longer" in caplog.text
    cache.merge(lambda kept: kept + b"new", never)
    assert cache.read() == b"new"


def test_a_timing_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a directory")
    TimingCache(tmp_path / "file", key()).merge(lambda kept: b"new", threading.Event())

    assert "not written" in caplog.text
