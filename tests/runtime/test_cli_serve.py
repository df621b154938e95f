"""`embedge serve` as people meet it: its help, its ready file, and what it says when it cannot start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from embedge import Client, cli
from embedge.config import RuntimeConfig
from embedge.serving.config import ServeConfig
from tests.servers import serve_fails, served


def test_help_names_every_default(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli._run(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    config, runtime = ServeConfig(), RuntimeConfig()
    numbers = (config.port, config.max_message_bytes, config.stream_in_flight, f"{config.drain_seconds:g}")
    for default in (config.repository, config.host, *numbers, runtime.backend, "all", "measured at start"):
        assert f"(default: {default})" in shown


def test_ready_file_is_there_while_the_server_is_ready(engines: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("localhost:1\n")
    with served(engines, "--model", "tiny", "--ready-file", str(ready)) as process:
        assert ready.read_text() == f"{process.address}\n"
        assert process.stop()[0] == 0
    assert list(tmp_path.iterdir()) == []


def no_port(address: str) -> list[str]:
    return ["--port", address.rpartition(":")[2]]


def no_model(_address: str) -> list[str]:
    return ["--port", "0", "--model", "nope"]


@pytest.mark.parametrize("wrong", [no_port, no_model])
def test_server_that_cannot_start_is_not_ready(
    engines: Path, address: str, tmp_path: Path, wrong: Callable[[str], list[str]]
) -> None:
    ready = tmp_path / "ready"
    ready.write_text(f"{address}\n")
    code, _ = serve_fails(engines, "--ready-file", str(ready), *wrong(address))
    assert code == 2
    assert not ready.exists()


def test_grpc_writes_nothing_beside_our_message(engines: Path, address: str) -> None:
    code, told = serve_fails(engines, *no_port(address))
    assert code == 2
    assert told.startswith("embedge: cannot listen on")
    assert told.count("\n") == 1


def test_a_trace_shows_what_was_prepared_computed_and_completed(engines: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with served(engines, "--model", "tiny", "--trace", str(file)) as process:
        with Client(process.address) as client:
            client.embed("tiny", ["a cat", "a dog"])
        assert process.stop()[0] == 0
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    assert any(event["name"] == "prepare" and event["args"]["items"] == 2 for event in events)
    assert {"prepare", "start", "finish", "complete"} <= {event["name"] for event in events if event["ph"] == "X"}
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert "completer" in tracks
    assert any(track.startswith("tiny-") for track in tracks)
