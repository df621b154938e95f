"""The kernel: one graph in one lane, ready to be put on a stream. Each GPU backend has its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from embedge.batches.shapes import Shape
from embedge.cuda import Event, Stream

__all__ = ["Bound", "Executable", "Forks"]

Bound = Mapping[str, tuple[int, Shape]]
"""Tensors by name: where each is in the device's memory, a multiple of 256, and its shape."""


class Executable(Protocol):
    """Used in its lane's thread only."""

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """The dtype of each input."""

    @property
    def outputs(self) -> Mapping[str, np.dtype[Any]]:
        """The dtype of each output."""

    @property
    def capturable(self) -> bool:
        """Whether what it enqueues may be recorded and replayed."""

    def shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape]:
        """Return the outputs' shapes. Raises BackendError where the graph does not take such inputs."""

    def enqueue(self, inputs: Bound, outputs: Bound, stream: Stream, consumed: Event | None) -> None:
        """Put a run on the stream and return. `consumed` is recorded once the inputs may be refilled.

        Raises CudaError, BackendError; what was enqueued before that may still run.
        """

    def close(self) -> None:
        """Free what it holds, once nothing that it enqueued runs any more."""


@runtime_checkable
class Forks(Protocol):
    """A kernel with a state for the shape that it last ran at, which recorded runs depend on.

    A recorded run then has a kernel of its own, which only ever sees that one shape. TensorRT: a graph that was
    captured from an execution context is void once that context has another shape.
    """

    def fork(self) -> Executable:
        """Return another kernel of the same graph, with a state of its own. Raises CudaError, BackendError."""
