"""The manifest: what a bundle holds and how to run it (JSON, format version 1).

`export` writes it, the runtime owns its meaning. Parsing is strict: an unknown key or format version is an
error that says what to do, because a key that is silently skipped would be a vector that is silently wrong.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec

from embedge.errors import BundleError
from embedge.kinds import CodesOutput, DenseOutput, MultiVectorOutput, Output, ScoresOutput, Vocabulary
from embedge.prepare import (
    FarthestPoints,
    ImagePrepare,
    Prepare,
    Resize,
    Strict,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    Tokens,
    VideoPrepare,
)

FORMAT = 1
FILE_NAME = "manifest.json"

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "Buckets",
    "Certificate",
    "Figure",
    "Graph",
    "LabelSet",
    "Manifest",
    "Part",
    "Provenance",
    "Space",
    "TensorSpec",
    "Tower",
    "decode",
    "encode",
]


# Far above any real model, and below what a damaged number could make the runtime allocate.
_Rows = Annotated[int, msgspec.Meta(ge=1, le=1 << 12)]
_SOME = msgspec.Meta(min_length=1)
_FEW = msgspec.Meta(min_length=1, max_length=64)


class TensorSpec(Strict, frozen=True, kw_only=True):
    """A graph input or output. `shape` mixes fixed sizes and symbols, e.g. `["batch", "length"]`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph(Strict, frozen=True, kw_only=True):
    """One ONNX file. `sha256` is of the file; `precision` is how its weights and matmuls compute."""

    file: str
    sha256: str
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Space(Strict, frozen=True, kw_only=True):
    """An identified vector space: vectors of different ids must not be compared.

    The id is derived from what defines the space (weights, pooling, projection). `lineage` lists ids of
    spaces that a projection of this one is compatible with. A logit, as the model was trained with, is
    scale * similarity + bias.
    """

    id: str
    dim: Vocabulary
    metric: Literal["cosine", "dot", "euclidean", "hamming", "max_sim", "sparse_dot", "likelihood"] = "cosine"
    lineage: tuple[str, ...] = ()
    scale: float = 1.0
    bias: float = 0.0


class Part(Strict, frozen=True, kw_only=True):
    """One named part of an item: how to prepare it, and whether an item may come without it.

    A part that is not there is all padding: ragged arrays have no values of their own, so their mask is 0; others are 0.
    """

    prepare: Prepare
    optional: bool = False

    @property
    def modality(self) -> str:
        """The prepare spec's tag: text, image, audio, video, tensor, table or vector."""
        return str(self.prepare.__struct_config__.tag)


class Buckets(Strict, frozen=True, kw_only=True):
    """Sizes that warm-up measures and that an engine builder makes profiles for. A row of no axis has length 1."""

    lengths: Annotated[tuple[Tokens, ...], _FEW]
    batches: Annotated[tuple[_Rows, ...], _FEW] = (1, 2, 4, 8, 16, 32)


class Tower(Strict, frozen=True, kw_only=True):
    """A callable entry: named parts in, the graphs of `steps` in order, named outputs out.

    A step reads its inputs by name from the prepared arrays and the outputs of the steps before it.
    """

    parts: Annotated[dict[str, Part], _SOME]
    steps: Annotated[tuple[str, ...], _SOME]
    outputs: Annotated[dict[str, Output], _SOME]
    buckets: Buckets


class LabelSet(Strict, frozen=True, kw_only=True):
    """Labels for zero-shot classification, embedded by `tower`: each label in every template, where `{}` stands for it.

    A label's vector is the mean of its templates' vectors, of length 1 each, scaled to length 1 (Radford et al., 2021,
    arXiv:2103.00020, section 3.1.4). Scores are the softmax, or the sigmoid, of the space's logits.
    """

    tower: str
    output: str
    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1 << 16)]
    templates: Annotated[tuple[str, ...], _SOME] = ("{}",)
    scores: Literal["softmax", "sigmoid"] = "softmax"


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the weights came from and what made the bundle."""

    source: str
    revision: str = ""
    hashes: dict[str, str] = {}
    tools: dict[str, str] = {}
    recipe: str = ""
    created: str = ""


class Figure(Strict, frozen=True, kw_only=True):
    """One measured figure of the certificate beside its threshold. `worst` names the input that set it."""

    value: float
    limit: float
    better: Literal["higher", "lower"]
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value meets its limit; NaN never does."""
        return self.value >= self.limit if self.better == "higher" else self.value <= self.limit


class Certificate(Strict, frozen=True, kw_only=True):
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


class Manifest(Strict, frozen=True, kw_only=True):
    """All of a bundle. `files` maps every other file's relative path to its SHA-256."""

    format: int
    name: str
    version: str
    provenance: Provenance
    spaces: dict[str, Space]
    graphs: dict[str, Graph]
    towers: dict[str, Tower]
    files: dict[str, str]
    label_sets: dict[str, LabelSet] = {}
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
                _check_part(part.prepare, tower, manifest, f"part {name}.{part_name}")
            _check_steps(tower, manifest, f"tower {name!r}")
            for output_name, output in tower.outputs.items():
                _check_output(output, manifest, f"output {name}.{output_name}")
        for name, labels in manifest.label_sets.items():
            _check_labels(labels, manifest, f"label set {name!r}")
    except BundleError as error:
        raise BundleError(f"{where}: {error.message}; export the bundle again") from None


def _need(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        have = ", ".join(sorted(known)) or "nothing"
        raise BundleError(f"{what} names {name!r}, but the manifest holds {have}")


def _check_part(prepare: Prepare, tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse a prepare spec that contradicts itself or names what is not there."""
    longest = max(tower.buckets.lengths)
    if not set(prepare.carriers) & set(prepare.inputs):
        raise BundleError(f"{what} maps no graph input to {' or '.join(map(repr, prepare.carriers))}")
    if isinstance(prepare, TextPrepare):
        _need(prepare.tokenizer, manifest.files, what)
        if prepare.default_prompt:
            _need(prepare.default_prompt, prepare.prompts, f"default_prompt of {what}")
        if prepare.default_language is not None:
            _need(prepare.default_language, prepare.languages, f"default_language of {what}")
        if len(tower.parts) == 1 and longest > prepare.max_length:
            raise BundleError(f"buckets go up to length {longest:,}, {what} to {prepare.max_length:,}")
        if prepare.instruction is not None and "{instruction}" not in prepare.instruction:
            raise BundleError(f"the instruction of {what} has no place for it: {{instruction}}")
    elif isinstance(prepare, (ImagePrepare, VideoPrepare)):
        image = prepare.image if isinstance(prepare, VideoPrepare) else prepare
        if image.steps:
            last = image.steps[-1]
            if isinstance(last, Resize) and last.fit != "exact":
                raise BundleError(
                    f"the steps of {what} do not end at one size, as with a crop, a pad or an exact resize"
                )
            if (last.height, last.width) != (image.height, image.width):
                raise BundleError(f"the steps of {what} end at {last.height} x {last.width}, not at its size")
    elif isinstance(prepare, TensorPrepare):
        _check_tensor(prepare, what)
    elif isinstance(prepare, TablePrepare):
        _check_table(prepare, what)


def _check_tensor(prepare: TensorPrepare, what: str) -> None:
    if any(isinstance(size, str) for size in prepare.shape[1:]):
        raise BundleError(f"the shape of {what} has a symbol that is not its first axis")
    if prepare.minimum is not None and prepare.maximum is not None and prepare.minimum > prepare.maximum:
        raise BundleError(f"{what} takes numbers from {prepare.minimum} to {prepare.maximum}, which are none")
    if prepare.missing == "mask" and "observed" not in prepare.inputs:
        raise BundleError(f"{what} lets numbers be missing, but maps no graph input to 'observed'")
    for step in prepare.steps:
        if not prepare.shape or not prepare.dtype.startswith("float") or "observed" in prepare.inputs:
            raise BundleError(f"the steps of {what} need rows of floats, and no input 'observed'")
        width = prepare.shape[1] if len(prepare.shape) == 2 else 0
        if isinstance(step, FarthestPoints) and (isinstance(width, str) or width < 3):
            raise BundleError(f"farthest_points of {what} needs the shape (points, 3 or more)")


def _check_table(prepare: TablePrepare, what: str) -> None:
    names = [column.name for column in prepare.columns]
    if len(set(names)) < len(names):
        raise BundleError(f"{what} has two columns of one name")
    if twice := [column.name for column in prepare.columns if len(set(column.categories)) < len(column.categories)]:
        raise BundleError(f"column {twice[0]!r} of {what} lists a category twice")
    for role, there in (
        ("numbers", any(not column.categories for column in prepare.columns)),
        ("categories", any(column.categories for column in prepare.columns)),
    ):
        if there != (role in prepare.inputs):
            raise BundleError(f"{what} must map a graph input to {role!r} if it has such columns, and only then")


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
        for tensor in output.tensors:
            _need(tensor, made, f"output {output_name!r} of {what}")


def _check_output(output: Output, manifest: Manifest, what: str) -> None:
    if isinstance(output, ScoresOutput):
        return
    _need(output.space, manifest.spaces, what)
    dims = output.dims if isinstance(output, (DenseOutput, MultiVectorOutput)) else ()
    if too_large := [dim for dim in dims if dim > output.dim]:
        raise BundleError(f"{what} lists the size {too_large[0]:,}, but its vectors have {output.dim:,}")
    if isinstance(output, CodesOutput) and output.form == "bits" and output.dim % 8:
        raise BundleError(f"{what} has {output.dim:,} bits, which do not fill whole bytes")


def _check_labels(labels: LabelSet, manifest: Manifest, what: str) -> None:
    _need(labels.tower, manifest.towers, what)
    tower = manifest.towers[labels.tower]
    _need(labels.output, tower.outputs, what)
    if not isinstance(tower.outputs[labels.output], DenseOutput):
        raise BundleError(f"{what} needs an output of one vector an item, which {labels.output!r} is not")
    if bad := [template for template in labels.templates if "{}" not in template]:
        raise BundleError(f"the template {bad[0]!r} of {what} has no place for the label: {{}}")
