"""The original of a custom tower: the recipe's function, or the modules themselves on one item."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embedge.arrays import Array
from embedge.batches.batch import Layout, pad
from embedge.bundle.manifest import Buckets, Chain, Part, Tower
from embedge.bundle.output_specs import CodesOutput, GaussianOutput, MultiVectorOutput, Output
from embedge.bundle.part_specs import Fill
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.request import Request
from embedge_export.errors import ExportError
from embedge_export.model import Original, SampleItem
from embedge_export.recipe import TowerRecipe
from embedge_export.sources.custom.execution import ExecutionPath
from embedge_export.sources.pooling import normalize
from embedge_export.user_code import resolve

__all__ = ["beside", "original_of"]


def original_of(
    spec: TowerRecipe, parts: Mapping[str, Part], path: ExecutionPath, examples: Mapping[str, Array], folder: str
) -> Original:
    """Return the original of a tower.

    Args:
        spec: The tower's table. Its `original` is used if set; `preprocess` replaces the runtime's own preparation.
        parts: The tower's parts.
        path: The modules to run.
        examples: An example of each graph input, for dtypes.
        folder: The recipe's directory.
    """
    if spec.original:
        return resolve(spec.original, folder)
    prepare = (
        resolve(spec.preprocess, folder) if spec.preprocess else _ItemPreparer(parts, spec.chain, examples, folder)
    )

    def original(item: SampleItem) -> dict[str, Array]:
        feeds = {key: np.asarray(array)[None] for key, array in prepare(item).items()}
        tensors = {**feeds, **path.run(feeds)}
        return {key: _row(output, tensors, spec) for key, output in spec.outputs.items()}

    return original


def beside(folder: str, name: str) -> Path:
    """Return the path of a file in the recipe's directory. Raises ExportError if it is missing or unreadable."""
    path = Path(folder, name)
    if Path(name).name != name:
        raise ExportError(f"{name}: name a file in the recipe's directory, not a path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}; put it beside the recipe") from error
    return path


def _row(output: Output, tensors: Mapping[str, Array], spec: TowerRecipe) -> Array:
    """Return the result of a batch of one in the form of `Original`."""
    first: Array = tensors[output.tensors[0]][0]
    if isinstance(output, GaussianOutput):
        return np.stack([first, tensors[output.log_variance][0]])
    if isinstance(output, CodesOutput) and output.form == "bits":
        first = (first > 0).astype(np.uint8)
    if isinstance(output, (MultiVectorOutput, CodesOutput)) and output.keep is not None:
        first = first[tensors[output.keep][0] != 0]
    if spec.normalize and output.kind in ("dense", "multi_vector"):
        return normalize(np.atleast_2d(first)).reshape(first.shape)
    return first


class _ItemPreparer:
    """Prepares one item as the runtime does: graph inputs without a batch axis, unpadded."""

    def __init__(
        self, parts: Mapping[str, Part], chain: Chain | None, examples: Mapping[str, Array], folder: str
    ) -> None:
        tower = Tower(parts=dict(parts), steps=(), outputs={}, buckets=Buckets(lengths=(1,)), chain=chain)
        self._only = next(iter(parts)) if len(parts) == 1 else None
        self._inputs = ItemInput(tower, partial(beside, folder), RuntimeConfig(), name="tower")
        fills = {key: fill for part in parts.values() for key, fill in part.fills().items()}
        dtypes = {key: str(example.dtype) for key, example in examples.items()}
        order = {} if chain is None else {chain.order: Fill()}
        self._layout = Layout({**dtypes, **dict.fromkeys(order, "int64")}, {**fills, **order})

    def __call__(self, item: SampleItem) -> dict[str, Array]:
        content: Any = item if self._only is None else {self._only: item}
        (row,) = self._inputs.prepare([content], Request(items=(content,), truncate=True))
        if isinstance(row, EmbedgeError):
            raise row
        return {key: array[0] for key, array in pad([row], self._layout).items()}
