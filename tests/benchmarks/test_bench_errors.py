"""What a user can do wrong: one line each that says what to do, exit code 2, and no traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from embedge import cli
from embedge_bench.cli import app

QUICK = ["--duration", "0.2", "--rounds", "1", "--warm-up", "0"]


@pytest.fixture(scope="module", autouse=True)
def _joined() -> None:
    if not any(group.name == "bench" for group in cli.app.registered_groups):
        cli.app.add_typer(app, name="bench")


def fails(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `embedge bench …`, which must fail as a user's mistake does; return the line it says."""
    assert cli._run(["bench", *arguments]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    (line,) = said
    assert line.startswith("embedge: ")
    return line


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    "target", ["grpc://{}/tiny", "grpc+stream://{}/tiny", "oip://{}/tiny", "openai+http://{}/v1?model=m"]
)
def test_unreachable_server(capfd: pytest.CaptureFixture[str], nobody: str, lines: Path, target: str) -> None:
    line = fails(capfd, "run", target.format(nobody), "-w", str(lines), *QUICK)
    assert nobody in line
    assert "check the address" in line


@pytest.mark.parametrize("scheme", ["grpc", "grpc+stream", "oip"])
def test_wrong_model_lists_the_right_ones(
    capfd: pytest.CaptureFixture[str], address: str, lines: Path, scheme: str
) -> None:
    line = fails(capfd, "run", f"{scheme}://{address}/wrong", "-w", str(lines), *QUICK)
    assert "'wrong' is unknown; this server has: tiny" in line


def test_bundle_that_is_not_there(capfd: pytest.CaptureFixture[str], lines: Path) -> None:
    line = fails(capfd, "run", "inproc:nowhere", "-w", str(lines), *QUICK)
    assert "nowhere: no such directory; make a bundle" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--duration", "0"], "--duration 0 is not possible; give a number over 0"),
        (["--duration", "nan"], "--duration nan is not possible"),
        (["--count", "0"], "--count 0"),
        (["--rounds", "0"], "--rounds 0"),
        (["--batch", "-1"], "--batch -1"),
        (["--timeout", "0"], "--timeout 0"),
        (["--warm-up", "-1"], "--warm-up -1"),
        (["--concurrency", "1,x"], "--concurrency '1,x' is no list of numbers, as in 1,8,32"),
        (["--concurrency", "1.5"], "give whole numbers"),
        (["--concurrency", "0"], "--concurrency 0"),
        (["--rate", "0"], "--rate 0"),
        (["--workload", "shrot"], "neither a file nor one of: short, mixed, long"),
        (["--json", "nowhere/out.json"], "nowhere: no such directory"),
        (["--arrivals", "nowhere.txt"], "nowhere.txt: No such file"),
    ],
)
def test_options_that_cannot_be(
    capfd: pytest.CaptureFixture[str], engines: Path, options: list[str], message: str
) -> None:
    assert message in fails(capfd, "run", f"inproc:{engines}/tiny", *options)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "holds no text"), (b"a\n\xff\n", "line 2: not valid UTF-8 at byte 0")]
)
def test_unusable_workload_file(
    capfd: pytest.CaptureFixture[str], engines: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(content)
    assert message in fails(capfd, "run", f"inproc:{engines}/tiny", "-w", str(file), *QUICK)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ftp://host:1/x", "unknown scheme 'ftp'; choose one of inproc, serve"),
        ("tiny", "schemes: inproc"),
        ("grpc://localhost/tiny", "needs HOST:PORT"),
        ("inproc:{}/tiny?lanes=0", "lanes"),
        ("inproc:{}/tiny?wings=2", "wings"),
        ("ort:{}/tiny?batch=x", "batch"),
        ("openai+http://localhost:1/v1", "model"),
    ],
)
def test_target_that_cannot_be(
    capfd: pytest.CaptureFixture[str], engines: Path, lines: Path, target: str, message: str
) -> None:
    assert message in fails(capfd, "run", target.format(engines), "-w", str(lines), *QUICK)


def test_compare_needs_two_targets_with_two_names(capfd: pytest.CaptureFixture[str], engines: Path) -> None:
    assert "two targets or more" in fails(capfd, "compare", f"inproc:{engines}/tiny")
    twice = [f"inproc:{engines}/tiny"] * 2
    assert "name them apart" in fails(capfd, "compare", *twice)
