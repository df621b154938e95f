"""`embedge embed`: every format, bad lines, and what is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.runtime.embedding import TEXTS, Exact, bundle, exact, jsonl, run, vectors, write_lines
from tests.tiny_kinds import tiny_kinds

_ = bundle, exact, vectors


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
