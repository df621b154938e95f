"""`embedge embed`: every format, bad lines, and a run that is interrupted and goes on."""

from __future__ import annotations

import fcntl
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import embedge
from embedge.cli import _run
from embedge.commands import job as jobs
from embedge.outputs import Vectors
from embedge.request import Reply, Request
from tests.tiny import tiny_bundle, words
from tests.tiny_kinds import tiny_kinds

TEXTS = [words(1 + number % 9, seed=number) for number in range(40)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")


@pytest.fixture(scope="module")
def vectors(bundle: Path) -> np.ndarray:
    with embedge.Embedder.open(bundle) as embedder:
        return embedder.embed(TEXTS)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def run(*args: object) -> int:
    return _run(["embed", *map(str, args)])


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_text_to_npy(tmp_path: Path, bundle: Path, vectors: np.ndarray) -> None:
    out = tmp_path / "out.npy"
    assert run(bundle, write_lines(tmp_path / "in.txt", TEXTS), "-o", out, "--chunk", 7) == 0
    np.testing.assert_allclose(np.load(out), vectors, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy"]


def test_jsonl_to_jsonl_keeps_ids(tmp_path: Path, bundle: Path, vectors: np.ndarray) -> None:
    lines = [json.dumps({"id": f"doc-{n}", "text": text, "more": n}) for n, text in enumerate(TEXTS)]
    out = tmp_path / "out.jsonl"
    assert run(bundle, write_lines(tmp_path / "in.jsonl", lines), "-o", out) == 0
    rows = jsonl(out)
    assert [row["id"] for row in rows] == [f"doc-{n}" for n in range(len(TEXTS))]
    np.testing.assert_allclose(np.float32([row["vector"] for row in rows]), vectors, atol=1e-6)


def test_parquet_with_int8_scales(tmp_path: Path, bundle: Path, vectors: np.ndarray) -> None:
    out = tmp_path / "out.parquet"
    assert run(bundle, write_lines(tmp_path / "in.txt", TEXTS), "-o", out, "--dtype", "int8") == 0
    table = parquet.read_table(out).to_pydict()
    near = np.float32(table["vector"]) * np.float32(table["scale"])[:, None]
    np.testing.assert_allclose(near, vectors, atol=0.01)


def test_bad_lines_are_listed_and_the_others_come_out(tmp_path: Path, bundle: Path, vectors: np.ndarray) -> None:
    source = tmp_path / "in.txt"
    good = [text.encode() + b"\n" for text in TEXTS]
    source.write_bytes(b"".join([*good[:3], b"\xff\xfe bad\n", *good[3:5], b"   \n", *good[5:]]))
    out = tmp_path / "out.npy"
    assert run(bundle, source, "-o", out, "--chunk", 4) == 1
    rows = np.load(out)
    assert rows.shape == (len(TEXTS) + 2, vectors.shape[1])
    assert not rows[[3, 6]].any()
    np.testing.assert_allclose(np.delete(rows, [3, 6], axis=0), vectors, atol=1e-6)
    faults = jsonl(tmp_path / "out.npy.errors.jsonl")
    assert [fault["line"] for fault in faults] == [4, 7]
    assert "UTF-8" in faults[0]["error"]
    assert "empty" in faults[1]["error"]


def test_bad_json_lines(tmp_path: Path, bundle: Path) -> None:
    lines = ['"a cat"', "{", '{"title": "no text"}', '{"text": "a dog"}', "7"]
    out = tmp_path / "out.jsonl"
    assert run(bundle, write_lines(tmp_path / "in.jsonl", lines), "-o", out) == 1
    assert [row["line"] for row in jsonl(out)] == [1, 4]
    assert [fault["line"] for fault in jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [2, 3, 5]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "a", "id": true}', "its id"),
        ('{"text": "a", "id": 1.5}', "its id"),
        ('{"text": "a", "id": 99999999999999999999}', "its id"),
        ("[" * 200_000, "nested"),
    ],
)
def test_json_line_that_cannot_be_kept_is_a_bad_line(tmp_path: Path, exact: list[Exact], line: str, told: str) -> None:
    exact.append(Exact())
    source, out = write_lines(tmp_path / "in.jsonl", ['{"text": "1 cat", "id": 1}', line]), tmp_path / "out.jsonl"
    assert run("exact", source, "-o", out) == 1
    assert [row["id"] for row in jsonl(out)] == [1]
    (fault,) = jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert fault["line"] == 2
    assert told in fault["error"]


@pytest.mark.parametrize(("name", "line"), [("in.txt", "1 cat"), ("in.jsonl", '"1 cat"')])
def test_byte_order_mark_is_no_text(tmp_path: Path, exact: list[Exact], name: str, line: str) -> None:
    exact.append(model := Exact())
    source = tmp_path / name
    source.write_text(f"{line}\n", encoding="utf-8-sig")
    assert run("exact", source, "-o", tmp_path / "out.npy") == 0
    assert model.seen == ["1 cat"]


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl", "out.parquet"])
def test_every_line_bad(tmp_path: Path, bundle: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, write_lines(tmp_path / "in.txt", ["", " "]), "-o", tmp_path / name) == 1
    assert f"{name}: no vectors; 2 of 2 lines failed, see " in capsys.readouterr().err
    assert len(jsonl(tmp_path / f"{name}.errors.jsonl")) == 2


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl", "out.parquet"])
def test_empty_input_is_an_empty_file(
    tmp_path: Path, bundle: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, write_lines(tmp_path / "in.txt", []), "-o", tmp_path / name) == 0
    assert f"{name}: no vectors; the input has no lines\n" in capsys.readouterr().err
    assert (tmp_path / name).is_file()


NUMBERED = [f"{number} {text}" for number, text in enumerate(TEXTS)]


class Exact:
    """Stands for a model whose numbers depend on the text only, and that is interrupted at one of `NUMBERED`."""

    def __init__(self, stop: int | None = None, identity: str = "exact 1") -> None:
        self.stop = stop
        self.identity = identity
        self.seen: list[str] = []

    def __call__(self, request: Request) -> Reply:
        if self.stop is not None and int(str(request.items[0]).split()[0]) >= self.stop:
            raise KeyboardInterrupt
        self.seen += [str(item) for item in request.items]
        values = np.float32([[len(str(item)), hash(str(item)) % 97] for item in request.items])
        tokens = np.ones(len(values), np.int32)
        return Reply(model="exact", version="1", tower="t", outputs={"d": Vectors(values, "exact")}, tokens=tokens)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exact]]:
    """Put the models of the list in the place of the one that would be opened, one after the other."""
    queue: list[Exact] = []

    class Opened:
        def __init__(self, *_: object) -> None:
            self.model = queue.pop(0)

        def __enter__(self) -> jobs.Model:
            return jobs.Model(self.model, self.model.identity)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(jobs, "_model", Opened)
    yield queue
    assert not queue


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
        with jobs.Job(str(path), None, {}, 1).opened() as opened:
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


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-o", "out.csv"], ".jsonl or .npy or .parquet"),
        (["-o", "out.npy", "--dtype", "int8"], "scale"),
        (["-o", "out.npy", "--dim", "99"], "dim 99"),
        (["-o", "out.npy", "--prompt", "nope"], "nope"),
        (["-o", "out.npy", "--dtype", "float7"], "float7"),
        (["-o", "out.npy", "--tower", "nope"], "nope"),
        (["-o", "missing/out.npy"], "missing"),
        (["-o", "out.npy", "--chunk", "1000000000"], "'--chunk'"),
    ],
)
def test_user_errors_are_one_line(
    tmp_path: Path,
    bundle: Path,
    args: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(bundle, write_lines(tmp_path / "in.txt", TEXTS), *args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("embedge: ")]
    assert len(lines) == 1
    assert told in lines[0]


def test_an_output_that_is_not_a_vector_a_line_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = tiny_kinds(tmp_path / "kinds")
    args = ("-o", tmp_path / "out.npy", "--tower", "text", "--output", "tokens")
    assert run(kinds, write_lines(tmp_path / "in.txt", TEXTS[:2]), *args) == 2
    assert "output 'tokens' is multi_vector; files take one vector a line" in capsys.readouterr().err


def test_missing_input_is_one_line(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, tmp_path / "nowhere.txt", "-o", tmp_path / "out.npy") == 2
    assert capsys.readouterr().err == f"embedge: {tmp_path / 'nowhere.txt'}: No such file or directory\n"


def test_stdin_to_stdout(bundle: Path, vectors: np.ndarray) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embedge.cli", "embed", str(bundle)],
        input="\n".join([*TEXTS, "", ""]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"line {len(TEXTS) + 1}: ")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(np.float32([row["vector"] for row in rows]), vectors, atol=1e-6)


def test_reader_that_goes_away_is_no_traceback(tmp_path: Path, bundle: Path) -> None:
    source = write_lines(tmp_path / "in.txt", TEXTS * 50)
    with subprocess.Popen(
        [sys.executable, "-m", "embedge.cli", "embed", str(bundle), str(source), "--chunk", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


def test_model_that_changes_in_mid_run_is_refused(tmp_path: Path, exact: list[Exact]) -> None:
    source, out = interrupted(tmp_path, exact)
    exact[0].__class__ = type("Other", (Exact,), {"__call__": _other_space})
    assert run("exact", source, "-o", out, "--chunk", 5, "--resume") == 2


def _other_space(self: Exact, request: Request) -> Reply:
    reply = Exact.__call__(self, request)
    values = reply.outputs["d"].values
    return Reply(model="x", version="1", tower="t", outputs={"d": Vectors(values, "other")}, tokens=reply.tokens)
