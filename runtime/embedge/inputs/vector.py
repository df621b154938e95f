"""Precomputed vectors to rows: size, numbers and space are checked, and the length made 1 where the part says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedge.batches.batch import Row
from embedge.bundle.part_specs import TensorPrepare, VectorPrepare
from embedge.config import RuntimeConfig
from embedge.content import Vector
from embedge.errors import EmbedgeError, InvalidInput
from embedge.inputs.tensor import TensorInput
from embedge.request import Request

__all__ = ["VectorInput"]


class VectorInput:
    """Prepares the vectors of one part: a Vector, an array or a list (dim,). Safe to call from several threads."""

    def __init__(self, spec: VectorPrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        (self._name,) = spec.inputs.values()
        self._tensor = TensorInput(TensorPrepare(inputs={"values": self._name}, shape=(spec.dim,)), config, file)

    def check(self, request: Request) -> None:
        """Accept every request: no option of a request is about vectors."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each vector's row, float32 `(dim,)`, or its error."""
        rows = self._tensor.prepare([each.values if isinstance(each, Vector) else each for each in contents], request)
        rows = [self._space_fault(each) or row for each, row in zip(contents, rows, strict=True)]
        return self._normalized(rows) if self.spec.normalize else rows

    def probe(self) -> NDArray[np.generic]:
        """Return a vector `(dim,)`."""
        return self._tensor.probe()

    def size(self, row: Row) -> int:
        """Return 1: every row has the same shape."""
        return 1

    def estimate(self, contents: Sequence[object]) -> int:
        """Return how many vectors there are."""
        return len(contents)

    def weight(self, content: object) -> int:
        """Return about how many bytes the vector has."""
        return self._tensor.weight(content.values if isinstance(content, Vector) else content)

    def _space_fault(self, content: object) -> EmbedgeError | None:
        space = content.space if isinstance(content, Vector) else None
        if space is None or self.spec.space is None or space == self.spec.space:
            return None
        return InvalidInput(f"the vector is of the space {space!r}, this part takes vectors of {self.spec.space!r}")

    def _normalized(self, rows: list[Row | EmbedgeError]) -> list[Row | EmbedgeError]:
        good = [row[self._name] for row in rows if not isinstance(row, EmbedgeError)]
        if not good:
            return rows
        wide = np.stack(good).astype(np.float64)  # the square of a float32 may not be one
        norms = np.linalg.norm(wide, axis=1)
        units = (wide / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
        scaled = iter([{self._name: unit} if norm > 0 else _zero() for unit, norm in zip(units, norms, strict=True)])
        return [row if isinstance(row, EmbedgeError) else next(scaled) for row in rows]


def _zero() -> EmbedgeError:
    return InvalidInput("the vector is all zeros and has no direction; leave it out")
