"""An executable: one graph in one lane, ready to be put on a stream. Each GPU backend has its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from embedge.batches.shapes import Shape
from embedge.cuda import Event, Stream

__all__ = ["Bindings", "Executable", "Forkable"]

Bindings = Mapping[str, tuple[int, Shape]]
"""Tensors by name: the device address of each, a multiple of 256, and its shape."""


class Executable(Protocol):
    """Enqueues the work of one graph. Only its lane's thread uses it."""

    @property
    def inputs(self) -> Mapping[str, np.dtype[Any]]:
        """The dtype of each input."""

    @property
    def outputs(self) -> Mapping[str, np.dtype[Any]]:
        """The dtype of each output."""

    @property
    def capturable(self) -> bool:
        """Whether its work may be captured in a CUDA graph and replayed."""

    def shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape]:
        """Return the shapes of the outputs for inputs of these shapes.

        Raises:
            BackendError: The graph doesn't take such inputs.
        """

    def enqueue(self, inputs: Bindings, outputs: Bindings, stream: Stream, consumed: Event | None) -> None:
        """Put a run on the stream and return.

        Args:
            inputs: Where the graph reads.
            outputs: Where the graph writes.
            stream: The lane's stream.
            consumed: Recorded once the inputs may be refilled.

        Raises:
            CudaError: A call to CUDA failed. Work enqueued before may still run.
            BackendError: The library refused the batch. Work enqueued before may still run.
        """

    def close(self) -> None:
        """Free everything, once nothing that it enqueued runs any more."""


@runtime_checkable
class Forkable(Protocol):
    """An executable whose state depends on the shape of its last run.

    Each captured run then needs an executable of its own, used for that one shape only. TensorRT is the case in point:
    a graph captured from an execution context is void once the context gets another shape.
    """

    def fork(self) -> Executable:
        """Return another executable of the same graph, with its own state.

        Raises:
            CudaError: A call to CUDA failed.
            BackendError: The library refused.
        """
