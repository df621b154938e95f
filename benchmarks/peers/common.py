"""What the peer scripts share: each peer's own environment, and what of a bundle a peer can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent.parent / "build" / "peers"


def enter(peer: str, *, python: str = sys.executable, environment: dict[str, str] | None = None) -> None:
    """Go on in the peer's own virtual environment, made by `python` on first use; does not return from outside it."""
    root = ENVIRONMENTS / peer
    if Path(sys.prefix) == root:
        return
    requirements = HERE / "requirements" / f"{peer}.txt"
    installed = root / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        subprocess.run([python, "-m", "venv", "--clear", root], check=True)
        pip = [root / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True, stdout=sys.stderr)
        installed.write_text(requirements.read_text())
    os.environ.update(environment or {})
    # -P: the scripts here are named after the packages that they run, and must not be found instead of them.
    os.execv(root / "bin" / "python", [str(root / "bin" / "python"), "-P", *sys.argv])


@dataclass(frozen=True)
class TextModel:
    """The text tower of a one-graph bundle: its graph, its tokenizer, and the names between them."""

    name: str
    graph: Path
    tokenizer: Path
    max_length: int
    pad_id: int
    ids: str
    mask: str
    output: str
    dim: int

    @classmethod
    def load(cls, bundle: Path) -> TextModel:
        """Read a bundle's manifest. No check of hashes: that is embedge's own work."""
        manifest = json.loads((bundle / "manifest.json").read_text())
        (tower,) = manifest["towers"].values()
        (graph,) = (manifest["graphs"][step] for step in tower["steps"])
        prepare = tower["parts"]["text"]["prepare"]
        output = next(iter(tower["outputs"].values()))
        return cls(
            name=manifest["name"],
            graph=bundle / graph["file"],
            tokenizer=bundle / prepare["tokenizer"],
            max_length=prepare["max_length"],
            pad_id=prepare["pad_id"],
            ids=prepare["inputs"]["ids"],
            mask=prepare["inputs"]["mask"],
            output=output["tensor"],
            dim=output["dim"],
        )
