"""What a trunk costs in memory that three towers share: resident memory with one tower open, and with three.

    python -m benchmarks.peers.trunk

Makes a bundle of three small fronts and one trunk of 53 MB, with random weights, and opens it in processes of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

TOWERS = ("one", "two", "three")

MODULES = """
import torch
from torch import nn


class Front(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(32, 64)

    def forward(self, values):
        return self.linear(values)


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow, self.wide, self.out = nn.Linear(64, 3584), nn.Linear(3584, 3584), nn.Linear(3584, 16)

    def forward(self, hidden):
        return self.out(self.wide(self.narrow(hidden).relu()).relu())
"""

RECIPE = """
name = "trunk"
[step.trunk]
module = "trunk_modules:Trunk"
gives = ["vector"]
"""

TOWER = """
[step.front_{name}]
module = "trunk_modules:Front"
arguments = {{ seed = {seed} }}
gives = ["hidden"]
[tower.{name}]
steps = ["front_{name}", "trunk"]
outputs.vector = {{ kind = "dense", tensor = "vector", space = "all", dim = 16, normalized = false }}
[tower.{name}.parts.values]
prepare = {{ modality = "vector", inputs = {{ values = "values" }}, dim = 32 }}
"""


def main() -> None:
    """Make the bundle, and measure each number of towers twice."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        bundle = _made(folder)
        for towers in (TOWERS[:1], TOWERS) * 2:
            command = [sys.executable, __file__, str(bundle), *towers]
            figure = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"{len(towers)} of {len(TOWERS)} towers: {figure} MiB more than embedge alone")


def _made(folder: Path) -> Path:
    from embedge_export import recipe
    from embedge_export.build import build
    from embedge_export.quiet import quiet

    (folder / "trunk_modules.py").write_text(MODULES)
    towers = "".join(TOWER.format(name=name, seed=seed) for seed, name in enumerate(TOWERS))
    (folder / "trunk.toml").write_text(RECIPE + towers)
    with quiet():
        path, _ = build(recipe.load(folder / "trunk.toml"), folder / "engines")
    return path


def measure(bundle: str, towers: tuple[str, ...]) -> float:
    """Return by how many MiB the process grew when it opened the towers and asked each of them once."""
    import numpy as np

    from embedge import Embedder, RuntimeConfig, Vector

    process = psutil.Process()
    before = process.memory_info().rss
    with Embedder.open(bundle, config=RuntimeConfig(lanes=1, threads=1, warm_up_seconds=0, towers=towers)) as embedder:
        for tower in towers:
            embedder.embed([Vector(np.ones(32, np.float32))], tower=tower)
        return (process.memory_info().rss - before) / 2**20


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(f"{measure(sys.argv[1], tuple(sys.argv[2:])):.1f}")
    else:
        main()
