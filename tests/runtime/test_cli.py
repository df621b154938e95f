"""The command line as a whole: exit codes, one-line errors, other packages' commands, and `embedge inspect`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

import embedge
from embedge import Embedder, RuntimeConfig, backends, cli
from embedge.backends import cores as slots
from embedge.commands import inspect
from embedge.errors import BundleError
from tests.tiny import tiny_bundle
from tests.tiny_kinds import tiny_kinds
from tests.tiny_towers import tiny_towers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[typer.Typer]:
    """A command line of its own to which tests add commands."""
    fresh = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    fresh.command("nothing")(lambda: None)
    monkeypatch.setattr(cli, "app", fresh)
    return fresh


def fails_with(app: typer.Typer, error: BaseException) -> None:
    def command() -> None:
        raise error

    app.command("fail")(command)


@pytest.mark.parametrize("args", [["--nope"], ["nope"], ["inspect"], ["embed", "x", "--dim", "many"]])
def test_wrong_usage_is_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(args) == 2
    told = capsys.readouterr().err
    assert told.startswith("embedge: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("args", [["serve", "--max-batch", "8"], ["build", "x", "--max-batch=8"]])
def test_an_old_name_of_a_setting_is_answered_with_the_new_one(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run(args) == 2
    assert "max_batch is now max_batch_size, a key of [runtime]" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["embedge", "embedge.cli"])
def test_version_is_told_by_every_way_in(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"embedge {embedge.__version__}\n", "")


def test_own_error_is_one_line_even_if_its_text_is_not(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    fails_with(app, BundleError("first\n  second"))
    assert cli._run(["fail"]) == 2
    assert capsys.readouterr().err == "embedge: first second\n"


def test_interruption_is_130(app: typer.Typer) -> None:
    fails_with(app, KeyboardInterrupt())
    assert cli._run(["fail"]) == 130


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault of ours"), OSError("no file is named")])
def test_fault_of_ours_keeps_its_traceback(app: typer.Typer, error: Exception) -> None:
    fails_with(app, error)
    with pytest.raises(type(error)):
        cli._run(["fail"])


def test_command_of_another_package_joins(app: typer.Typer) -> None:
    cli._join(EntryPoint("dumps", "json:dumps", "embedge.commands"))
    cli._join(EntryPoint("group", f"{__name__}:OTHER", "embedge.commands"))
    assert cli._run(["dumps", "--help"]) == 0
    assert cli._run(["group", "greet"]) == 7


OTHER = typer.Typer()


@OTHER.callback()
def other() -> None:
    """Hold more than one command."""


@OTHER.command()
def greet() -> None:
    raise typer.Exit(7)


def test_command_that_cannot_be_loaded_spoils_no_other(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    cli._join(EntryPoint("broken", "no_such_package:command", "embedge.commands"))
    assert cli._run(["nothing"]) == 0
    assert cli._run(["broken"]) == 2
    assert "no_such_package" in capsys.readouterr().err


def test_inspect_shows_what_the_bundle_holds(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "tiny 1",
        "onnxruntime",
        "tower text",
        "gives dense",
        "16 numbers",
        "tiny-16-0",
        "model.onnx",
        "query",
    ):
        assert part in shown


@pytest.mark.parametrize("gpu", [False, True])
def test_inspect_fits_100_columns_and_mentions_gpus_only_where_there_is_one(
    bundle: Path, gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "nvidiactl"
    monkeypatch.setattr(backends, "_GPU_FILES", (str(device),))
    if gpu:
        device.touch()
    with inspect.console.capture() as captured:
        monkeypatch.setattr(inspect.console, "width", 100)
        assert cli._run(["inspect", str(bundle)]) == 0
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= 100
    assert any(word in shown for word in ("CUDA", "TensorRT", "GPU")) is gpu


def test_completion_knows_the_commands() -> None:
    asked = {"_EMBEDGE_COMPLETE": "complete_bash", "COMP_WORDS": "embedge ins", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "embedge"], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["inspect"], "")


def test_inspect_shows_every_modality_and_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bundle in (tiny_kinds(tmp_path / "kinds"), tiny_towers(tmp_path / "towers", optional=("image",))):
        assert cli._run(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "text, up to 32 tokens, or a pair of them",
        "audio, heard at 1,000 Hz, 0 to 1 s",
        "video, 2 frames over its whole length",
        "image, seen as 4 x 4 RGB, optional",
        "scaled to 4 x 4 (bicubic)",
        "tensor, float32 (time, 5)",
        "table, 3 columns",
        "age: number from 0 up to 120",
        "town: one of Bern, Chur, may be missing",
        "vector, 4 numbers of space before",
        "multi_vector, 8 numbers a place",
        "sparse, of 8 entries, the highest 5",
        "gaussian, a mean and a log-variance of 8 numbers",
        "codes, 8 bits",
        "codes, 8 integers a place",
        "scores, of red, green, blue",
        "colours",
        "text.dense",
    ):
        assert part in shown


def test_inspect_shows_a_space_id_once_and_whole(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect.console, "_width", 80)
    space = "0123456789abcdef" * 2
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(manifest.replace("tiny-16-0", space))
    assert cli._run(["inspect", str(copy)]) == 0
    assert capsys.readouterr().out.count(space) == 1


def test_inspect_shows_the_lanes_that_a_start_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_bundle(tmp_path / "tiny", seed=77)
    cli._run(["inspect", str(path)])
    assert "measured at the first start" in capsys.readouterr().out
    with Embedder.open(path, config=RuntimeConfig(warm_up_seconds=0.05)) as embedder:
        chosen = embedder.split
    cli._run(["inspect", "--json", str(path)])
    lanes = json.loads(capsys.readouterr().out)["lanes"]
    assert (lanes["lanes"], lanes["threads"], lanes["reason"]) == (chosen.lanes, chosen.threads, chosen.reason)


def test_inspect_takes_a_model_directory(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["inspect", "--json", str(bundle.parent)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["manifest"] == json.loads((bundle / "manifest.json").read_bytes())
    assert report["backend"].startswith("onnxruntime")
    assert report["device"] == slots.device()


@pytest.mark.parametrize("command", ["inspect", "verify", "embed"])
def test_damaged_bundle_is_one_line(
    bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(bundle, damaged)
    with (damaged / "model.onnx").open("ab") as graph:
        graph.write(b"x")
    source = [str(tmp_path / "in.txt")] if command == "embed" else []
    (tmp_path / "in.txt").write_text("a line\n")
    assert cli._run([command, str(damaged), *source]) == 2
    told = capsys.readouterr().err
    assert told.startswith("embedge: ")
    assert told.count("\n") == 1
    assert "SHA-256" in told


def test_ctrl_c_ends_a_real_process_cleanly(bundle: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "embedge.cli", "embed", str(bundle), "--chunk", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a cat\na dog\na bird\n")
        process.stdin.flush()
        assert process.stdout.readline()  # it runs, and waits for more lines
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == ""
