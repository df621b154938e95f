"""The server as a process: how it starts, how it fails to start, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from embedge import Client, Reply, Request, Unavailable
from tests.servers import serve_fails, served
from tests.tiny import tiny_bundle, tiny_repository, words


def test_a_taken_port_is_refused_with_a_message_that_helps(address: str, engines: Path) -> None:
    code, log = serve_fails(engines, "--port", address.rpartition(":")[2])
    assert code == 2
    assert f"cannot listen on {address}" in log
    assert "--port" in log
    assert "Traceback" not in log


def test_sigterm_finishes_what_was_admitted(tmp_path: Path) -> None:
    large, small = Request(items=[words(20, seed=i) for i in range(3000)]), Request(items=["a cat"])
    held = threading.Event()

    def requests() -> Iterator[Request]:
        yield large
        yield small
        held.wait(60)

    with served(tiny_repository(tmp_path / "engines")) as process, Client(process.address) as client:
        answers = client.stream("tiny", requests())
        # The server reads in order, so when the small one is answered, the large one is admitted.
        seen = [next(answers)]
        process.popen.terminate()
        held.set()
        seen += answers
        code, log = process.end()
    assert code == 0, log
    assert sorted(number for number, _ in seen) == [0, 1]
    for number, reply in seen:
        assert isinstance(reply, Reply)
        assert reply.vectors.shape == ((3000, 1)[number], 16)
    assert "Traceback" not in log


def test_an_idle_server_ends_at_once_with_code_0(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with served(tiny_repository(tmp_path / "engines"), "--ready-file", str(ready)) as process:
        assert ready.read_text() == f"{process.address}\n"
        code, log = process.stop()
    assert code == 0
    assert "Traceback" not in log


@pytest.mark.parametrize("made", ["", "engines", "engines/model/1"])
def test_a_missing_or_empty_repository(tmp_path: Path, made: str) -> None:
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    code, log = serve_fails(tmp_path / "engines", "--port", "0")
    assert code == 2
    assert "embedge export" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_corrupt_bundle(tmp_path: Path) -> None:
    engines = tiny_repository(tmp_path / "engines")
    with (engines / "tiny" / "1" / "model.onnx").open("ab") as file:
        file.write(b"x")
    code, log = serve_fails(engines, "--port", "0")
    assert code == 2
    assert "SHA-256" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_an_unknown_model_and_a_bad_option(engines: Path) -> None:
    code, log = serve_fails(engines, "--port", "0", "--model", "tini")
    assert code == 2
    assert "other, tiny" in log.splitlines()[-1]
    code, log = serve_fails(engines, "--port", "0", "--tls-cert", "cert.pem")
    assert (code, log.splitlines()[-1]) == (2, "embedge: the command line: TLS needs both --tls-cert and --tls-key")
    code, log = serve_fails(engines, "--port", "70000")
    assert code == 2


def test_only_the_named_models_are_served(engines: Path) -> None:
    with served(engines, "--model", "other") as process, Client(process.address) as client:
        assert [model.name for model in client.models()] == ["other"]


def test_a_read_only_repository_is_served_and_left_as_it_was(tmp_path: Path) -> None:
    engines = tiny_repository(tmp_path / "engines")
    paths = [engines, *engines.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [(path, path.stat().st_mtime_ns) for path in paths]
    with served(engines) as process, Client(process.address) as client:
        assert client.embed("tiny", ["a cat"]).shape == (1, 16)
    assert [(path, path.stat().st_mtime_ns) for path in [engines, *engines.rglob("*")]] == before
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_one_bundle_may_be_served_by_its_path(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", name="alone")
    with served(bundle) as process, Client(process.address) as client:
        assert [model.name for model in client.models()] == ["alone"]


def test_the_token_may_come_from_the_environment(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "EMBEDGE_TOKEN", "secret")
    with served(engines, "--model", "tiny") as process, Client(process.address, token="secret") as client:
        assert client.embed("tiny", ["a cat"]).shape == (1, 16)


def test_a_lane_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    settings = tmp_path / "serve.toml"
    settings.write_text("[runtime]\nlanes = 1\nwarm_up_seconds = 0\n")
    options = ("--config", str(settings), "--backend", "hanging", "--drain-seconds", "0")
    serve = (sys.executable, "-W", "error", str(Path(__file__).with_name("hanging.py")), "serve")
    with (
        served(tiny_repository(tmp_path / "engines"), *options, serve=serve) as process,
        Client(process.address) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        call = caller.submit(client.embed, "tiny", [words(20)])
        assert process.popen.stdout.readline() == "hanging\n"
        code, log = process.stop()
        with pytest.raises(Unavailable):
            call.result(30)
    assert code == 0, log
    assert "tiny: a lane hangs and is left behind" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_server_that_drains(tmp_path: Path, second: signal.Signals) -> None:
    held = threading.Event()

    def requests() -> Iterator[Request]:
        yield Request(items=["a cat"] * 20_000)
        yield Request(items=["a cat"])
        held.wait(60)

    with served(tiny_repository(tmp_path / "engines")) as process, Client(process.address) as client:
        answers = client.stream("tiny", requests())
        next(answers)
        process.popen.terminate()
        # Until the drain has begun, calls are still answered.
        with pytest.raises(Unavailable):
            deque((client.embed("tiny", ["a cat"]) for _ in count()), maxlen=0)
        process.popen.send_signal(second)
        code, _ = process.end()
        held.set()
    assert code == -second
