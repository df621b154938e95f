"""Find a bundle on disk, check it against its manifest, and read it. No file is used before its hash matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embedge import atomic
from embedge.bundle import manifest as manifests
from embedge.bundle.manifest import Manifest
from embedge.errors import BundleError

__all__ = ["Bundle", "bundles", "find", "sha256"]

_AGAIN = "export the bundle again, or copy it again from where it was made"
_SHOWN = 300  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of one model.

    Attributes:
        path: the bundle directory.
        manifest: its manifest.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = True) -> Bundle:
        """Read and check a bundle.

        Args:
            path: bundle directory, or model directory (its newest version).
            verify: whether to compare every file's SHA-256 with the manifest.

        Raises:
            BundleError: the bundle is missing, damaged or of another format.
        """
        root = find(Path(path))
        where = root / manifests.FILE_NAME
        with _reading(where):
            data = where.read_bytes()
        bundle = cls(root, manifests.decode(data, where=str(where)))
        for name, digest in bundle._hashes().items():
            file = bundle.file(name)
            if verify and sha256(file) != digest:
                raise BundleError(f"{file}: its SHA-256 is not the one in the manifest: damaged or changed; {_AGAIN}")
        return bundle

    def file(self, name: str) -> Path:
        """Return the path of a file in the manifest.

        Raises:
            BundleError: the file is missing or outside the bundle.
        """
        pure = PurePosixPath(name)
        path = self.path / pure
        with _reading(path):
            within = path.resolve().is_relative_to(self.path.resolve())
            there = path.is_file()
        if pure.is_absolute() or ".." in pure.parts or not within:
            raise BundleError(f"{self.path}: the manifest names {name!r}, which lies outside the bundle; do not use it")
        if not there:
            raise BundleError(f"{path}: named by the manifest, but missing; {_AGAIN}")
        return path

    def graph(self, name: str) -> Path:
        """Return the path of a graph's ONNX file."""
        return self.file(self.manifest.graphs[name].file)

    def _hashes(self) -> dict[str, str]:
        return {graph.file: graph.sha256 for graph in self.manifest.graphs.values()} | self.manifest.files


def find(path: Path) -> Path:
    """Resolve a path to a bundle directory: itself, or the newest version in a model directory.

    Raises:
        BundleError: the path holds no bundle.
    """
    with _reading(path):
        if (path / manifests.FILE_NAME).is_file():
            return path
        if path.is_file():
            again = f"make one with 'embedge export {path} --out engines'"
            raise BundleError(f"{path}: this is a file, and a bundle is a directory; {again}")
        if not path.is_dir():
            raise BundleError(f"{path}: no such directory; make a bundle with 'embedge export'")
    versions = bundles(path, "*")
    if not versions:
        if models := sorted({entry.parent.name for entry in bundles(path, "*/*")}):
            raise BundleError(f"{path}: holds models, and is no bundle; name one of them: {', '.join(models)}")
        raise BundleError(f"{path}: holds no {manifests.FILE_NAME}; make a bundle with 'embedge export'")
    return max(versions, key=lambda entry: _natural(entry.name))


def bundles(root: Path, depth: str) -> list[Path]:
    """Return the bundle directories at `*` or `*/*` under `root`. Hidden ones are unfinished builds."""
    with _reading(root):
        found = [file.parent for file in root.glob(f"{depth}/{manifests.FILE_NAME}") if file.is_file()]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file.

    Raises:
        BundleError: the file can't be read.
    """
    with _reading(path):
        return atomic.sha256(path)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which version 10 comes after version 9."""
    return [(1, int(run)) if run.isdecimal() else (0, run) for run in re.findall(r"\d+|\D+", name)]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the file system says about a path into an error that says what to do."""
    try:
        yield
    except BundleError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # ValueError: a NUL in the name; RuntimeError: links in a circle
        name = str(getattr(error, "filename", None) or path)
        name = name if name.isprintable() else ascii(name)[1:-1]
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise BundleError(f"{shown}: cannot be read: {reason}; allow this user to read it, or {_AGAIN}") from error
