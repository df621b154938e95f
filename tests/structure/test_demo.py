"""The demo of images and texts, run as on a fresh clone: what is served finds what PyTorch finds, or it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.structure.code import ROOT
from tests.structure.test_readme import blocks


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_towers_trained_for_seconds_are_proven_served_and_searched(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "engines" / "recipes" / "digits", tmp_path / "engines" / "recipes" / "digits")
    figures = re.findall(r"for a \w+ +│ +([\d.]+) │ +([\d.]+) │", _run(tmp_path, "docs/demo_multimodal.py", "--quick"))
    assert len(figures) == 2
    for before, after in figures:
        assert before == after
        assert float(after) > 0.05  # by chance it is 0.003
    with Image.open(tmp_path / "build" / "digits" / "found.png") as sheet:
        assert sheet.width > 1000
    (block,) = (block for block in blocks() if "engines/digits" in block.text)  # of the README: what to do after it
    assert "held-out" in _run(tmp_path, "-c", block.text)


def _run(clone: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, *args],
        cwd=clone,
        env=os.environ | {"NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
