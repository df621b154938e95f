"""`embedge export` on the command line: what is said when it cannot begin, and that nothing else is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from embedge.cli import main


def told(*args: str | Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Run `embedge export`, which is expected to fail with exit code 2; return what it wrote."""
    monkeypatch.setattr(sys, "argv", ["embedge", "export", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capfd.readouterr()
    return said.out + said.err


@pytest.mark.parametrize("source", ["./nowhere", "package:nowhere/model"])
def test_a_bad_source_is_one_line_and_no_half_stage(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = told(source, "--out", tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert line.startswith("embedge: ")
    assert "nowhere" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(("source", "without"), [("./nowhere", "torch"), ("model.onnx", "onnx")])
def test_a_missing_package_is_said_before_anything_else(
    tmp_path: Path, source: str, without: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").touch()
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr("embedge_export.cli.find_spec", lambda name: None if name == without else find(name))
    line = told(source, "--out", tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert line == f"embedge: export needs {without}; pip install 'embedge[export]'\n"


def test_an_onnx_source_needs_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").touch()
    find = importlib.util.find_spec
    monkeypatch.setattr("embedge_export.cli.find_spec", lambda name: None if name == "torch" else find(name))
    line = told(tmp_path / "model.onnx", "--out", tmp_path, monkeypatch=monkeypatch, capfd=capfd)
    assert "torch" not in line
    assert "tokenizer.json" in line
