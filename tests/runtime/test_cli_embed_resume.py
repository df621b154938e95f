"""`embedge embed` that is interrupted and goes on: to the same file, and never with another model or input."""

from __future__ import annotations

import fcntl
import json
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedge.commands.embed import job as jobs
from embedge.outputs import Vectors
from embedge.request import Reply, Request
from tests.runtime.embedding import NUMBERED, Exact, bundle, exact, run, write_lines

_ = bundle, exact


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("stop", [0, 5, 20])
def test_interrupted_run_goes_on_to_the_same_file(tmp_path: Path, exact: list[Exact], name: str, stop: int) -> None:
    source = write_lines(tmp_path / "in.txt", NUMBERED)
    whole, first, second = Exact(), Exact(stop), Exact()
    exact += [whole, first, second]
    assert run("exact", source, "-o", tmp_path / f"whole-{name}", "--chunk", 5) == 0
    assert run("exact", source, "-o", tmp_path / name, "--chunk", 5) == 130
    assert not (tmp_path / name).exists()
    assert run("exact", source, "-o", tmp_path / name, "--chunk", 5, "--resume") == 0
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert sorted(second.seen) == sorted(NUMBERED[stop:])
    assert not (tmp_path / f"{name}.partial").exists()


def test_what_a_dying_process_wrote_last_is_cut_off(tmp_path: Path, exact: list[Exact]) -> None:
    source = write_lines(tmp_path / "in.txt", NUMBERED)
    exact += [Exact(), Exact(15), Exact()]
    assert run("exact", source, "-o", tmp_path / "whole.npy", "--chunk", 5) == 0
    assert run("exact", source, "-o", tmp_path / "out.npy", "--chunk", 5) == 130
    for file in ("vectors", "rows"):
        with (tmp_path / "out.npy.partial" / file).open("ab") as partial:
            partial.write(b"half a row")
    assert run("exact", source, "-o", tmp_path / "out.npy", "--chunk", 5, "--resume") == 0
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def interrupted(tmp_path: Path, exact: list[Exact]) -> tuple[Path, Path]:
    source, out = write_lines(tmp_path / "in.txt", NUMBERED), tmp_path / "out.npy"
    exact += [Exact(15), Exact()]
    assert run("exact", source, "-o", out, "--chunk", 5) == 130
    return source, out


def test_interrupted_run_is_not_overwritten(
    tmp_path: Path, exact: list[Exact], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = interrupted(tmp_path, exact)
    capsys.readouterr()
    assert run("exact", source, "-o", out, "--chunk", 5) == 2
    assert "--resume" in capsys.readouterr().err


def test_resume_refuses_other_options(tmp_path: Path, exact: list[Exact], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = interrupted(tmp_path, exact)
    capsys.readouterr()
    assert run("exact", source, "-o", out, "--chunk", 5, "--dim", 1, "--resume") == 2
    assert "had dim 'None', this one '1'" in capsys.readouterr().err


def test_resume_refuses_another_model_at_the_same_path(
    tmp_path: Path, exact: list[Exact], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = interrupted(tmp_path, exact)
    exact[0].identity = "exact 2"
    assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 2
    assert "had model 'exact 1', this one 'exact 2'" in capsys.readouterr().err


def test_a_model_is_known_by_its_manifest_and_not_by_its_path(tmp_path: Path, bundle: Path) -> None:
    def identity(path: Path) -> str:
        with jobs.EmbedJob(str(path), None, {}, 1).opened() as opened:
            return opened.settings["model"]

    copy = shutil.copytree(bundle, tmp_path / "copy")
    known = identity(bundle)
    assert identity(copy) == known
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["provenance"]["revision"] = "another"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert identity(copy) != known


def test_two_runs_into_one_output(tmp_path: Path, exact: list[Exact], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = interrupted(tmp_path, exact)
    place = tmp_path / "out.npy.partial"
    with (place / "lock").open("ab") as other:  # stands for the run that is writing
        fcntl.flock(other, fcntl.LOCK_EX)
        exact.append(Exact())
        assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 2
    assert f"embedge: another run is writing {place}; wait for it\n" in capsys.readouterr().err
    assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 0
    assert len(np.load(out)) == len(NUMBERED)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file become larger, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("name", "size"),
    [("out.npy", 2500), ("out.jsonl", 2500), ("out.parquet", 2500), ("out.jsonl", 9000)],
    ids=["npy", "jsonl", "parquet", "in the last step"],
)
def test_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path, exact: list[Exact], name: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_lines(tmp_path / "in.txt", [f"{number} line" for number in range(500)])
    exact += [Exact(), Exact(), Exact()]
    assert run("exact", source, "-o", tmp_path / f"whole-{name}", "--chunk", 50) == 0
    capsys.readouterr()
    with largest_file(size):
        assert run("exact", source, "-o", tmp_path / name, "--chunk", 50) == 2
    told = capsys.readouterr().err
    assert "go on with --resume" in told
    assert told.splitlines()[-1].startswith(f"embedge: {tmp_path / name}")
    assert told.splitlines()[-1].endswith("File too large")
    assert not (tmp_path / f"{name}.new").exists()
    assert run("exact", source, "-o", tmp_path / name, "--chunk", 50, "--resume") == 0
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_full_disk_behind_stdout_is_one_line(
    tmp_path: Path, exact: list[Exact], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exact.append(Exact())
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run("exact", write_lines(tmp_path / "in.txt", NUMBERED)) == 2
    assert capsys.readouterr().err == "embedge: standard output: No space left on device\n"


def test_resume_refuses_another_input(tmp_path: Path, exact: list[Exact], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = interrupted(tmp_path, exact)
    write_lines(source, ["something else", *NUMBERED[1:]])
    assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 2
    assert "not those of the interrupted run" in capsys.readouterr().err


def test_model_that_changes_in_mid_run_is_refused(tmp_path: Path, exact: list[Exact]) -> None:
    source, out = interrupted(tmp_path, exact)
    exact[0].__class__ = type("Other", (Exact,), {"__call__": _other_space})
    assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 2


def _other_space(self: Exact, request: Request) -> Reply:
    reply = Exact.__call__(self, request)
    values = reply.outputs["d"].values
    return Reply(model="x", version="1", tower="t", outputs={"d": Vectors(values, "other")}, tokens=reply.tokens)
