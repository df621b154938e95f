"""What every source gives: towers with their graphs, the spaces of their vectors, and the original to hold them to.

A source's `load(path, recipe)` returns a `SourceModel`. Everything after it (graphs, manifest, golden pairs, gate) is
the same for every source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Buckets, Chain, LabelSet, Part
from embedge.bundle.output_specs import Output, ScoresOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Content
from embedge_export.errors import ExportError
from embedge_export.recipe import SpaceMetric

__all__ = [
    "GraphInput",
    "GraphSource",
    "GraphStep",
    "Original",
    "SampleItem",
    "SampleSource",
    "SourceModel",
    "SpaceSource",
    "TowerSource",
]

PreparedArray = NDArray[np.generic]

SampleItem = Content | Mapping[str, Content]
"""What one call of a tower is given: the content of its only part, or of each part by name."""


@dataclass(frozen=True, eq=False)
class GraphInput:
    """A graph input: its name, its shape of sizes and symbols (`batch` first), and an example of it to trace with.

    The example has the input's dtype. No symbol is 1 or 0 long in it, and a symbol has one size in all inputs of a
    graph: tracing takes a size of 1 for a constant. longest: the most that a symbol may be, where that is known.
    """

    name: str
    shape: tuple[int | str, ...]
    example: PreparedArray
    longest: Mapping[str, int] = field(default_factory=dict)


class GraphSource(Protocol):
    """Something that becomes one ONNX file. Towers that name the same object share the file."""

    def write(self, path: Path, inputs: Sequence[GraphInput], *, opset: int) -> None:
        """Write the graph; its inputs are exactly `inputs`. Raises ExportError."""
        ...


@dataclass(frozen=True, eq=False)
class GraphStep:
    """One graph of several that a tower runs. Towers that name the same step share its file.

    graph: None is the graph of this name in the bundle that is extended.
    takes: names of inputs that it can take. It is given those of them that are there: prepared, or made by a step
    before it. shapes: of inputs, in which a name is a size that may vary; of others, those of the first tower.
    """

    name: str
    graph: GraphSource | None
    takes: Sequence[str]
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)


class Original(Protocol):
    """The original's own code, one item at a time: its processor, its model, no batch, no padding, nothing of ours."""

    def __call__(self, item: Any, /) -> Mapping[str, PreparedArray]:
        """Return an array by output name; floats are float32.

        dense (dim,); multi_vector (places, dim), only the places that are kept; sparse (dim,), the weight of every
        entry; gaussian (2, dim), mean and log-variance; codes (dim,) or (places, dim), bits as 0 and 1; scores
        (labels,). A text over the length limit is cut, as the original's processor cuts it.
        """
        ...


SampleSource = Callable[[int], Sequence[SampleItem]]
"""Gives at most so many items, varied and the same every time, for the gate."""


@dataclass(frozen=True, kw_only=True)
class SpaceSource:
    """A space of vectors. Its id is a hash of `definition` and `dim`, or `id` where there is such a space already.

    definition: JSON values that say all that defines it (weights of every tower, pooling, projection, normalisation),
    and nothing that does not: two builds of the same weights share the id. See `weights.definition`.
    """

    definition: Mapping[str, Any]
    dim: int
    metric: SpaceMetric = "cosine"
    scale: float = 1.0
    bias: float = 0.0
    lineage: tuple[str, ...] = ()
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class TowerSource:
    """One tower, ready to be exported.

    parts: as in the manifest; files that they name are in `SourceModel.files`.
    graph: takes the inputs that the parts make. steps: graphs in order, where it is not one of all inputs; none where
    outputs are what the parts make. chain: as in the manifest; modules: the steps that it names, its start first.
    outputs: as in the manifest, but `space` holds a key of `SourceModel.spaces`; the id takes its place.
    examples: examples of graph inputs, by name, for tracing; others are made from the parts.
    samples: items for the gate; None: the built-in ones of the parts' modalities.
    buckets: None: from the parts' limits.
    """

    parts: Mapping[str, Part]
    outputs: Mapping[str, Output]
    original: Original
    graph: GraphSource | None = None
    steps: Sequence[GraphStep] = ()
    chain: Chain | None = None
    modules: Sequence[GraphStep] = ()
    examples: Mapping[str, PreparedArray] = field(default_factory=dict)
    samples: SampleSource | None = None
    buckets: Buckets | None = None


@dataclass(frozen=True, kw_only=True)
class SourceModel:
    """A trained model, ready to be exported.

    kind: which source read it. files: what travels beside the graphs, by name in the bundle, such as tokenizers.
    hashes: SHA-256 of the source's files. tools: versions of what read them.
    """

    kind: str
    towers: Mapping[str, TowerSource]
    spaces: Mapping[str, SpaceSource] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    label_sets: Mapping[str, LabelSet] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse outputs of spaces that are not there, or that have another size."""
        for name, tower in self.towers.items():
            for key, output in tower.outputs.items():
                if isinstance(output, ScoresOutput):
                    continue
                space = self.spaces.get(output.space)
                if space is None:
                    known = ", ".join(self.spaces) or "none"
                    raise ExportError(f"output {name}.{key} names the space {output.space!r}; there are: {known}")
                if space.dim != output.dim:
                    raise ExportError(
                        f"output {name}.{key} has {output.dim:,} numbers, its space {output.space!r} {space.dim:,}"
                    )

    def only(self, names: Sequence[str]) -> SourceModel:
        """Return the model with these towers only; no names: all of them. Raises ExportError."""
        if unknown := [name for name in names if name not in self.towers]:
            raise ExportError(f"the source has no tower {unknown[0]!r}; it has: {', '.join(self.towers)}")
        towers = {name: self.towers[name] for name in names or self.towers}
        prepares = [part.prepare for tower in towers.values() for part in tower.parts.values()]
        used = {prepare.tokenizer for prepare in prepares if isinstance(prepare, TextPrepare)}
        return replace(self, towers=towers, files={name: data for name, data in self.files.items() if name in used})
