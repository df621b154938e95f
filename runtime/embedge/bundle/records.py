"""Manifest records: what a bundle holds, and how to run it. Their docstrings are the reference of the format."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from embedge.bundle.output_specs import Output, Vocabulary
from embedge.bundle.part_specs import Fill, Prepare, Strict, Tokens

__all__ = [
    "Better",
    "Buckets",
    "Certificate",
    "Chain",
    "Graph",
    "LabelSet",
    "Manifest",
    "Metric",
    "Part",
    "Provenance",
    "ScoreFunction",
    "SetSpec",
    "Space",
    "SpaceMetric",
    "TensorSpec",
    "Tower",
]

# Far above any real model, and below what a damaged number could make the runtime allocate.
_BatchSize = Annotated[int, msgspec.Meta(ge=1, le=1 << 12)]
_SOME = msgspec.Meta(min_length=1)
_FEW = msgspec.Meta(min_length=1, max_length=64)

SpaceMetric = Literal["cosine", "dot", "euclidean", "hamming", "max_sim", "sparse_dot", "likelihood"]
ScoreFunction = Literal["softmax", "sigmoid"]
Better = Literal["higher", "lower"]


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
    metric: SpaceMetric = "cosine"
    lineage: tuple[str, ...] = ()
    scale: float = 1.0
    bias: float = 0.0


class SetSpec(Strict, frozen=True, kw_only=True):
    """A part is a list of pieces: items of the tower `tower`, each of which becomes a vector, its dense `output`.

    What the part's prepare spec is given are these vectors, float32: all of an item's in order, (pieces, dim), for a
    tensor part; or with `pool` their mean or the highest of each number, (dim,), for a vector part, which may scale it
    to length 1. prompt: the name of the prompt of the pieces.
    """

    tower: str
    output: str
    pool: Literal["mean", "max"] | None = None
    max_pieces: Tokens = 4096
    prompt: str | None = None


class Part(Strict, frozen=True, kw_only=True):
    """One named part of an item: how to prepare it, and whether an item may come without it.

    A part that is not there is all padding: ragged arrays have no values of their own, others are 0. The graph must be
    able to see that: by a mask that is then 0, or by `presence`, a graph input (batch,) that is 1 where the item has
    the part and 0 where not. set: the part is a list of pieces.
    """

    prepare: Prepare
    optional: bool = False
    presence: str | None = None
    set: SetSpec | None = None

    @property
    def modality(self) -> str:
        """The prepare spec's tag: text, image, audio, video, tensor, table or vector."""
        return str(self.prepare.__struct_config__.tag)

    def fills(self) -> dict[str, Fill]:
        """Return how each graph input of the part is filled: those of its prepare spec, and presence ()."""
        presence = {} if self.presence is None else {self.presence: Fill()}
        return {**self.prepare.fills(), **presence}

    @property
    def shows_absence(self) -> bool:
        """Whether a graph can tell a part that is not there from one that is all zero."""
        fills = self.prepare.fills()
        masked = any(fill.mask_of is not None and fills[fill.mask_of].ragged for fill in fills.values())
        return masked or self.presence is not None or not {"observed", "length"}.isdisjoint(self.prepare.inputs)


class Buckets(Strict, frozen=True, kw_only=True):
    """Sizes that warm-up measures and that an engine builder makes profiles for. A row of no axis has length 1."""

    lengths: Annotated[tuple[Tokens, ...], _FEW]
    batches: Annotated[tuple[_BatchSize, ...], _FEW] = (1, 2, 4, 8, 16, 32)


class Chain(Strict, frozen=True, kw_only=True):
    """Modules that pass a state on, in the order in which an item gives its parts (MultiModN: Swamy et al., 2023,
    arXiv:2309.14118).

    modules: the graph of each part. It reads the state as its input `takes`, and gives the next one as its output
    `gives`, (batch, …) of fixed sizes. start: the graph without inputs whose `gives`, (1, …), is the state of an item
    before its first part; None: zeros. The tower's steps read the last state as `takes`, and nothing else.

    trail: names for tensors that the steps make, (batch, …), after each part: (batch, parts, …). keep: the name of the
    tensor (batch, parts) that is 1 where an item has so many parts. Outputs of many vectors may be read from both.
    order: the prepared array (batch, parts), int64: the numbers of an item's modules in its order, then -1. No graph
    reads it, so it must be a name that none has.
    """

    modules: Annotated[dict[str, str], _SOME]
    takes: str
    gives: str
    start: str | None = None
    trail: dict[str, str] = {}
    keep: str = "turns"
    order: str = "order"


class Tower(Strict, frozen=True, kw_only=True):
    """A callable entry: named parts in, the graphs of `steps` in order, named outputs out.

    A step reads its inputs by name from the prepared arrays and the outputs of the steps before it. An output is read
    from either, so a tower that pools a set needs no step. After a `chain` there is its state, not the prepared arrays.
    """

    parts: Annotated[dict[str, Part], _SOME]
    steps: tuple[str, ...]
    outputs: Annotated[dict[str, Output], _SOME]
    buckets: Buckets
    chain: Chain | None = None

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of all graphs that it runs."""
        if self.chain is None:
            return self.steps
        start = () if self.chain.start is None else (self.chain.start,)
        return (*start, *self.chain.modules.values(), *self.steps)


class LabelSet(Strict, frozen=True, kw_only=True):
    """Labels for zero-shot classification, embedded by `tower`: each label in every template, where `{}` stands for it.

    A label's vector is the mean of its templates' vectors, of length 1 each, scaled to length 1 (Radford et al., 2021,
    arXiv:2103.00020, section 3.1.4). Scores are the softmax, or the sigmoid, of the space's logits.
    """

    tower: str
    output: str
    labels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1 << 16)]
    templates: Annotated[tuple[str, ...], _SOME] = ("{}",)
    scores: ScoreFunction = "softmax"


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the weights came from and what made the bundle."""

    source: str
    revision: str = ""
    hashes: dict[str, str] = {}
    tools: dict[str, str] = {}
    recipe: str = ""
    created: str = ""


class Metric(Strict, frozen=True, kw_only=True):
    """One metric of the certificate.

    Attributes:
        value: as measured.
        threshold: what the value must reach, `limit` in the manifest.
        better: whether higher or lower values are better.
        worst: the input with the worst value.
    """

    value: float
    threshold: float = msgspec.field(name="limit")
    better: Better
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value meets its threshold; NaN never does."""
        return self.value >= self.threshold if self.better == "higher" else self.value <= self.threshold


class Certificate(Strict, frozen=True, kw_only=True):
    """Metrics against the original model, with the device and versions they were measured on.

    Attributes:
        metrics: by full name, `figures` in the manifest.
        items: golden pairs measured.
        corpus: name of the corpus the items come from.
        device: the device's CPU or GPU, architecture and system.
        backend: name and version of the backend.
        versions: of the packages involved.
        created: time of the measurement, UTC, ISO 8601.
    """

    metrics: dict[str, Metric] = msgspec.field(name="figures")
    items: int
    corpus: str
    device: str
    backend: str
    versions: dict[str, str] = {}
    created: str = ""

    @property
    def passed(self) -> bool:
        """Whether the certificate has metrics and all of them pass."""
        return bool(self.metrics) and all(metric.passed for metric in self.metrics.values())


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
