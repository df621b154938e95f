"""The manifest: what a bundle holds and how to run it (JSON, format version 1).

`export` writes it, the runtime owns its meaning. Parsing is strict: an unknown key or format version is an
error that says what to do, because a key that is silently skipped would be a vector that is silently wrong.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec

from embedge.errors import BundleError

FORMAT = 1
FILE_NAME = "manifest.json"

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "Buckets",
    "Certificate",
    "Figure",
    "Graph",
    "Manifest",
    "Output",
    "Part",
    "Provenance",
    "Space",
    "TensorSpec",
    "TextPrepare",
    "Tower",
    "decode",
    "encode",
]


# Far above any real model, and below what a damaged number could make the runtime allocate.
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
_PadId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Rows = Annotated[int, msgspec.Meta(ge=1, le=1 << 12)]
_SOME = msgspec.Meta(min_length=1)
_FEW = msgspec.Meta(min_length=1, max_length=64)


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every manifest record: immutable, unknown keys refused."""


class TensorSpec(_Strict, frozen=True, kw_only=True):
    """A graph input or output. `shape` mixes fixed sizes and symbols, e.g. `["batch", "length"]`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph(_Strict, frozen=True, kw_only=True):
    """One ONNX file. `sha256` is of the file; `precision` is how its weights and matmuls compute."""

    file: str
    sha256: str
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Space(_Strict, frozen=True, kw_only=True):
    """An identified vector space: vectors of different ids must not be compared.

    The id is derived from what defines the space (weights, pooling, projection). `lineage` lists ids of
    spaces that a projection of this one is compatible with.
    """

    id: str
    dim: _Size
    metric: Literal["cosine", "dot", "euclidean", "hamming"] = "cosine"
    lineage: tuple[str, ...] = ()


class TextPrepare(_Strict, frozen=True, kw_only=True, tag="text", tag_field="modality"):
    """How a text becomes token ids.

    `max_length` counts tokens with specials. `inputs` maps each role to the graph's input name; a role that
    the graph does not take is absent. `prompts` are prefixes by name, put before the text as they are. `allow_empty`
    lets empty and blank texts through; a vector of nothing means nothing, so by default they are refused.
    """

    tokenizer: str
    max_length: _Tokens
    pad_id: _PadId = 0
    padding_side: Literal["right", "left"] = "right"
    inputs: dict[Literal["ids", "mask", "types"], str]
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    lowercase: bool = False
    allow_empty: bool = False


class Part(_Strict, frozen=True, kw_only=True):
    """One named part of an item: how to prepare it, and whether an item may come without it."""

    prepare: TextPrepare
    optional: bool = False


class Output(_Strict, frozen=True, kw_only=True):
    """A named result of a tower, read from the graph output `tensor`.

    `dims` lists the sizes the vector was trained to be cut to; empty means that any size up to `dim` is allowed.
    """

    tensor: str
    kind: Literal["dense"] = "dense"
    space: str
    dim: _Size
    normalized: bool
    dims: tuple[_Size, ...] = ()


class Tower(_Strict, frozen=True, kw_only=True):
    """A callable entry: named parts in, the graphs of `steps` in order, named outputs out.

    A step reads its inputs by name from the prepared arrays and the outputs of the steps before it.
    """

    parts: Annotated[dict[str, Part], _SOME]
    steps: Annotated[tuple[str, ...], _SOME]
    outputs: Annotated[dict[str, Output], _SOME]


class Buckets(_Strict, frozen=True, kw_only=True):
    """Sizes that warm-up measures and that an engine builder makes profiles for."""

    lengths: Annotated[tuple[_Tokens, ...], _FEW]
    batches: Annotated[tuple[_Rows, ...], _FEW] = (1, 2, 4, 8, 16, 32)


class Provenance(_Strict, frozen=True, kw_only=True):
    """Where the weights came from and what made the bundle."""

    source: str
    revision: str = ""
    hashes: dict[str, str] = {}
    tools: dict[str, str] = {}
    recipe: str = ""
    created: str = ""


class Figure(_Strict, frozen=True, kw_only=True):
    """One measured figure of the certificate beside its threshold. `worst` names the input that set it."""

    value: float
    limit: float
    better: Literal["higher", "lower"]
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value meets its limit; NaN never does."""
        return self.value >= self.limit if self.better == "higher" else self.value <= self.limit


class Certificate(_Strict, frozen=True, kw_only=True):
    """The recorded parity figures, with the device and versions they were taken on."""

    figures: dict[str, Figure]
    items: int
    corpus: str
    device: str
    backend: str
    versions: dict[str, str] = {}
    created: str = ""

    @property
    def passed(self) -> bool:
        """Whether there is at least one figure and every one meets its limit."""
        return bool(self.figures) and all(figure.passed for figure in self.figures.values())


class Manifest(_Strict, frozen=True, kw_only=True):
    """All of a bundle. `files` maps every other file's relative path to its SHA-256."""

    format: int
    name: str
    version: str
    provenance: Provenance
    spaces: dict[str, Space]
    graphs: dict[str, Graph]
    towers: dict[str, Tower]
    files: dict[str, str]
    buckets: Buckets
    golden: str
    certificate: Certificate | None = None


def decode(data: bytes, *, where: str) -> Manifest:
    """Parse manifest bytes. `where` names the file in messages. Raises BundleError."""
    try:
        head: Any = msgspec.json.decode(data)
        version = head.get("format") if isinstance(head, dict) else None
        if version != FORMAT:
            raise BundleError(
                f"{where}: manifest format {version!r} is not known to this embedge, which reads format {FORMAT}; "
                "upgrade embedge or export the bundle again"
            )
        manifest = msgspec.convert(head, Manifest)
    except RecursionError as error:
        raise BundleError(f"{where}: not a valid manifest: nested too deeply; export the bundle again") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{where}: not a valid manifest: {error}; export the bundle again") from error
    _check_references(manifest, where)
    return manifest


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _check_references(manifest: Manifest, where: str) -> None:
    """Refuse a manifest whose parts name what it does not hold."""
    try:
        if not manifest.towers:
            raise BundleError("the manifest has no towers")
        _need(manifest.golden, manifest.files, "golden")
        for name, tower in manifest.towers.items():
            for part_name, part in tower.parts.items():
                _check_prepare(part.prepare, manifest, f"part {name}.{part_name}")
            _check_steps(tower, manifest, f"tower {name!r}")
            for output_name, output in tower.outputs.items():
                _check_output(output, manifest, f"output {name}.{output_name}")
    except BundleError as error:
        raise BundleError(f"{where}: {error.message}; export the bundle again") from None


def _need(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        have = ", ".join(sorted(known)) or "nothing"
        raise BundleError(f"{what} names {name!r}, but the manifest holds {have}")


def _check_prepare(prepare: TextPrepare, manifest: Manifest, what: str) -> None:
    _need(prepare.tokenizer, manifest.files, what)
    if "ids" not in prepare.inputs:
        raise BundleError(f"{what} maps no graph input to 'ids'")
    if prepare.default_prompt:
        _need(prepare.default_prompt, prepare.prompts, f"default_prompt of {what}")
    if max(manifest.buckets.lengths) > prepare.max_length:
        raise BundleError(
            f"buckets go up to length {max(manifest.buckets.lengths):,}, {what} to {prepare.max_length:,}"
        )


def _check_steps(tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse steps that read what nothing makes, prepared arrays that no step reads, outputs that no step makes."""
    prepared = {name for part in tower.parts.values() for name in part.prepare.inputs.values()}
    read: set[str] = set()
    made: set[str] = set()
    for step in tower.steps:
        _need(step, manifest.graphs, what)
        for spec in manifest.graphs[step].inputs:
            _need(spec.name, prepared | made, f"an input of step {step!r} of {what}")
            read.add(spec.name)
        made |= {spec.name for spec in manifest.graphs[step].outputs}
    for name in sorted(prepared):
        _need(name, read, f"a prepared input of {what}")
    for output_name, output in tower.outputs.items():
        _need(output.tensor, made, f"output {output_name!r} of {what}")


def _check_output(output: Output, manifest: Manifest, what: str) -> None:
    _need(output.space, manifest.spaces, what)
    if too_large := [dim for dim in output.dims if dim > output.dim]:
        raise BundleError(f"{what} lists the size {too_large[0]:,}, but its vectors have {output.dim:,}")
