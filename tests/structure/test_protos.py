"""`protos/generate` on a Python for which its compiler has no wheel."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.structure.code import ROOT


def test_a_python_that_is_too_new_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "protos" / "generate"
    script.parent.mkdir()
    script.write_bytes((ROOT / "protos" / "generate").read_bytes())
    monkeypatch.setattr(sys, "argv", ["generate"])
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    with pytest.raises(SystemExit, match=r"no wheel for Python 3\.13; .*python3\.12 protos/generate"):
        runpy.run_path(str(script), run_name="__main__")
    assert not (tmp_path / "build").exists()
