"""Bundles on their way to disk: built in a hidden directory, made durable, then moved into place in one step."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256 as new_sha256
from pathlib import Path

from embedge import manifest as manifests
from embedge.bundle import sha256
from embedge.kinds import DenseOutput
from embedge.manifest import Buckets, Graph, Manifest, Part, Provenance, Space, Tower
from embedge.prepare import TextPrepare
from embedge_export.errors import ExportError
from embedge_export.recipe import Recipe
from embedge_export.sources.base import Encoder

__all__ = ["GOLDEN", "GRAPH", "TOKENIZER", "check_free", "describe", "publish", "space_id", "staging", "target_of"]

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.npz"

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux' renameat2
_HERE = -100  # AT_FDCWD


def target_of(out: Path, recipe: Recipe) -> Path:
    """Return where the recipe's bundle goes: OUT/<name>/<version>."""
    return out / recipe.name / recipe.version


def check_free(target: Path, *, force: bool) -> None:
    """Raise ExportError if nothing can be written at `target`, or a bundle there is not to be replaced."""
    for place in (target.parent, target.parent.parent):  # we build in the repository, and rename into the model
        _check_writable(place)
    if target.exists() and not force:
        raise ExportError(f"{target}: there is a bundle already; choose another version, or replace it with --force")


def _check_writable(directory: Path) -> None:
    """Raise ExportError unless files can be made in `directory`, or it can itself be made."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir():
        raise ExportError(f"{nearest}: not a directory; choose another place with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ExportError(f"{nearest}: not writable; change that, or choose another place with --out")


@contextmanager
def staging(out: Path, recipe: Recipe) -> Iterator[Path]:
    """Give a hidden directory in `out` to build in; whatever is left of it at the end goes away.

    It lies beside the models, not among the versions: a model's newest version must never be a half-built one.
    """
    existed = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-{recipe.version}.", dir=out))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # a bundle came of it, so the directory stays
                out.rmdir()


def describe(staged: Path, encoder: Encoder, recipe: Recipe, graph: Graph, provenance: Provenance) -> Manifest:
    """Return the manifest of what lies in `staged`, yet without a certificate."""
    space = space_id(encoder)
    prepare = TextPrepare(
        tokenizer=TOKENIZER,
        max_length=encoder.max_length,
        pad_id=encoder.pad_id,
        inputs=encoder.inputs,
        prompts=encoder.prompts,
        default_prompt=encoder.default_prompt,
    )
    (tensor,) = graph.outputs
    output = DenseOutput(
        tensor=tensor.name, space=space, dim=encoder.dim, normalized=encoder.normalized, dims=tuple(sorted(recipe.dims))
    )
    files = sorted(file for file in staged.iterdir() if file.name not in (GRAPH, manifests.FILE_NAME))
    return Manifest(
        format=manifests.FORMAT,
        name=recipe.name,
        version=recipe.version,
        provenance=provenance,
        spaces={space: Space(id=space, dim=encoder.dim)},
        graphs={"encoder": graph},
        towers={
            "text": Tower(
                parts={"text": Part(prepare=prepare)},
                steps=("encoder",),
                outputs={"dense": output},
                buckets=Buckets(lengths=_lengths(encoder.max_length)),
            )
        },
        files={file.name: sha256(file) for file in files},
        golden=GOLDEN,
    )


def space_id(encoder: Encoder) -> str:
    """Return the id of the encoder's vector space: the same for the same weights, pooling and projection."""
    facts = encoder.definition | {"dim": encoder.dim, "normalized": encoder.normalized}
    return new_sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def publish(staged: Path, manifest: Manifest, target: Path, *, force: bool) -> None:
    """Write the manifest, make everything durable, and move the bundle into place in one step. Raises ExportError."""
    (staged / manifests.FILE_NAME).write_bytes(manifests.encode(manifest))
    for file in staged.iterdir():
        _sync(file)
    _sync(staged)
    staged.chmod(0o755)  # mkdtemp lets nobody else in
    check_free(target, force=force)
    existed = target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    try:
        _move(staged, target)
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # not empty: someone else's version is there by now
                target.parent.rmdir()
        raise
    _sync(target.parent)
    _sync(target.parent.parent)


def _move(staged: Path, target: Path) -> None:
    """Rename, or exchange with the bundle that is there; the old one is then in `staged` and goes with it."""
    if not target.exists():
        staged.rename(target)
    elif not _exchange(staged, target):
        # No system call for it here: for the moment between the two renames there is no bundle.
        old = staged.with_name(staged.name + ".old")
        target.rename(old)
        staged.rename(target)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; return whether this system can."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lengths(limit: int) -> tuple[int, ...]:
    """Return the bucket lengths: powers of two, and the limit itself."""
    return (*(1 << power for power in range(4, 20) if 1 << power < limit), limit)
