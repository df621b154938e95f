"""The result of every source: towers with graphs, the spaces of their vectors, and the originals to compare with.

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
"""One item of a tower: the content of its only part, or of each part by name."""


@dataclass(frozen=True, eq=False)
class GraphInput:
    """A graph input.

    Attributes:
        name: The input's name.
        shape: Sizes and symbols, `batch` first.
        example: An array to trace with, in the input's dtype. Symbols are longer than 1 in it, since tracing takes 1
            for a constant, and have the same size in all inputs of a graph.
        longest: Upper bounds of symbols, where known.
    """

    name: str
    shape: tuple[int | str, ...]
    example: PreparedArray
    longest: Mapping[str, int] = field(default_factory=dict)


class GraphSource(Protocol):
    """Writes one ONNX file. Towers with the same object share the file."""

    def write(self, path: Path, inputs: Sequence[GraphInput], *, opset: int) -> None:
        """Write the graph, with exactly these inputs. Raises ExportError."""
        ...


@dataclass(frozen=True, eq=False)
class GraphStep:
    """One of several graphs in a tower. Towers with the same step share its file.

    Attributes:
        name: The graph's name.
        graph: The graph, or None for the graph of this name in the bundle to extend.
        takes: Names of accepted inputs. A tower passes those it has: prepared, or from an earlier step.
        shapes: Shapes of inputs; names are sizes that may vary. Other inputs have the shape of the first tower.
    """

    name: str
    graph: GraphSource | None
    takes: Sequence[str]
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)


class Original(Protocol):
    """The original's own processor and model, one item at a time: no batch, no padding, none of embedge's code."""

    def __call__(self, item: Any, /) -> Mapping[str, PreparedArray]:
        """Compute the results of one item. Texts over the length limit are cut as the original's processor does.

        Returns:
            An array by output name; floats are float32. dense: (dim,). multi_vector: (vectors, dim), only those kept.
            sparse: (dim,), the weight of every entry. gaussian: (2, dim), mean and log-variance. codes: (dim,) or
            (codes, dim), bits as 0 and 1. scores: (labels,).
        """
        ...


SampleSource = Callable[[int], Sequence[SampleItem]]
"""Returns at most a given number of items for the gate: varied, and the same every time."""


@dataclass(frozen=True, kw_only=True)
class SpaceSource:
    """A space of vectors.

    Attributes:
        definition: JSON values of everything that defines the space (weights of every tower, pooling, projection,
            normalization) and nothing else, so that two builds of the same weights share an id. See
            `weights.definition`.
        dim: Size of its vectors.
        metric: How to compare vectors.
        scale: As in the manifest.
        bias: As in the manifest.
        lineage: As in the manifest.
        id: Id of an existing space. Default: a hash of `definition` and `dim`.
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
    """One tower, ready for export.

    Attributes:
        parts: As in the manifest; their files are in `SourceModel.files`.
        outputs: As in the manifest, but `space` is a key of `SourceModel.spaces`.
        original: The original.
        graph: The only graph, for all inputs of the parts.
        steps: Several graphs in order, in place of `graph`. Without either, the outputs are inputs of the parts.
        chain: As in the manifest.
        modules: The chain's steps, its start first.
        examples: Examples of graph inputs by name, for tracing. Default: made from the parts.
        samples: Items for the gate. Default: built-in items of the parts' modalities.
        buckets: Lengths for cost tables. Default: from the parts' length limits.
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
    """A trained model, ready for export.

    Attributes:
        kind: Name of its source.
        towers: Towers by name.
        spaces: Spaces by a key that outputs use.
        files: Other files of the bundle by name, such as tokenizers.
        label_sets: As in the manifest.
        hashes: SHA-256 of the source's files.
        tools: Versions of the libraries that read them.
    """

    kind: str
    towers: Mapping[str, TowerSource]
    spaces: Mapping[str, SpaceSource] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    label_sets: Mapping[str, LabelSet] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ExportError for outputs of unknown spaces, or spaces of another size."""
        for name, tower in self.towers.items():
            for key, output in tower.outputs.items():
                if isinstance(output, ScoresOutput):
                    continue
                space = self.spaces.get(output.space)
                if space is None:
                    known = ", ".join(self.spaces) or "none"
                    raise ExportError(f"output {name}.{key} names the space {output.space!r}; the spaces are: {known}")
                if space.dim != output.dim:
                    raise ExportError(
                        f"output {name}.{key} has {output.dim:,} numbers, its space {output.space!r} {space.dim:,}"
                    )

    def only(self, names: Sequence[str]) -> SourceModel:
        """Return the model with these towers only; without names, with all. Raises ExportError."""
        if unknown := [name for name in names if name not in self.towers]:
            raise ExportError(f"the source has no tower {unknown[0]!r}; it has: {', '.join(self.towers)}")
        towers = {name: self.towers[name] for name in names or self.towers}
        prepares = [part.prepare for tower in towers.values() for part in tower.parts.values()]
        used = {prepare.tokenizer for prepare in prepares if isinstance(prepare, TextPrepare)}
        return replace(self, towers=towers, files={name: data for name, data in self.files.items() if name in used})
