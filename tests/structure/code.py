"""The repository's own source, as the structure tests read it."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = {"embedge": "runtime", "embedge_export": "export", "embedge_bench": "benchmarks"}
GENERATED = ("embedge.v1", "embedge.oip")


@dataclass(frozen=True)
class Module:
    """One Python file of the three packages."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def generated(self) -> bool:
        return self.name.startswith(GENERATED)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and full name of every import in the file, lazy ones and those for type checkers too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.path}:{node.lineno}: relative import; write the full name"
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def modules(package: str | None = None, root: Path = ROOT) -> list[Module]:
    """Return every module of a package, or of all three; `root` is the checkout."""
    found = []
    for name, source_root in SOURCE_ROOTS.items():
        if package in (None, name):
            for path in sorted((root / source_root / name).rglob("*.py")):
                parts = path.relative_to(root / source_root).with_suffix("").parts
                found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def files() -> list[Path]:
    """Return every file that is committed or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())
