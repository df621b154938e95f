"""An engine in one lane. Each profile has its own execution context, so none is switched while batches run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embedge.backends.gpu.executable import Bindings
from embedge.backends.tensorrt.engine import Engine
from embedge.batches.shapes import Shape
from embedge.cuda import Driver, Event, Memory, Stream
from embedge.errors import BackendError

__all__ = ["Scratch", "TensorRTExecutable"]


class Scratch:
    """Device memory for the contexts of one lane. They use it in turn: the lane's one stream keeps them apart.

    Owned by the lane's thread. Allocated for the first context and freed with the last executable.
    """

    def __init__(self, driver: Driver, nbytes: int) -> None:
        """Allocate nothing yet.

        Args:
            driver: The GPU.
            nbytes: The most bytes that a context of the lane needs.
        """
        self._driver = driver
        self._nbytes = max(1, nbytes)
        self._users = 0
        self._memory: Memory | None = None

    def join(self) -> None:
        """Count an executable."""
        self._users += 1

    def lend(self, context: Any) -> None:
        """Let an execution context compute in it.

        Raises:
            CudaError: The GPU has too little memory left.
        """
        if self._memory is None:
            self._memory = self._driver.memory(self._nbytes)
        context.set_device_memory(self._memory.pointer, self._memory.nbytes)

    def leave(self) -> None:
        """Count an executable that is closed."""
        self._users -= 1
        if not self._users and self._memory is not None:
            self._memory.close()
            self._memory = None


class TensorRTExecutable:
    """Enqueues a graph's work. Owned by a lane's thread, and used with its one stream only."""

    def __init__(self, engine: Engine, scratch: Scratch, *, capturable: bool = True) -> None:
        """Create no context yet.

        Args:
            engine: The plan, deserialized.
            scratch: The lane's scratch memory.
            capturable: Whether its runs may be replayed from CUDA graphs.
        """
        self.capturable = capturable
        self.inputs: Mapping[str, np.dtype[Any]] = engine.inputs
        self.outputs: Mapping[str, np.dtype[Any]] = engine.outputs
        self._engine = engine
        self._scratch = scratch
        self._contexts: dict[int, Any] = {}
        self._open = True
        scratch.join()

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of the outputs for inputs of these shapes; see `Engine.shapes`."""
        return self._engine.shapes(inputs)

    def enqueue(self, inputs: Bindings, outputs: Bindings, stream: Stream, consumed: Event | None) -> None:
        """Enqueue one batch; see `Executable.enqueue`.

        Raises:
            BackendError: TensorRT refuses the batch, or no profile holds it.
            CudaError: The GPU has too little memory for the first context.
        """
        context = self._context({name: shape for name, (_, shape) in inputs.items()}, stream)
        for name, (pointer, shape) in inputs.items():
            self._require(context.set_input_shape(name, shape), f"the shape {shape} of {name!r}")
            self._require(context.set_tensor_address(name, pointer), f"the address of {name!r}")
        if unknown := context.infer_shapes():
            raise self._error(f"it cannot infer the shape of {', '.join(unknown)}")
        for name, (pointer, shape) in outputs.items():
            if (made := tuple(context.get_tensor_shape(name))) != shape:  # it would write beyond its memory
                raise self._error(f"it gives {name!r} the shape {made}, the manifest {shape}")
            self._require(context.set_tensor_address(name, pointer), f"the address of {name!r}")
        self._require(context.set_input_consumed_event(0 if consumed is None else consumed.handle), "the event")
        self._require(context.execute_async_v3(stream.handle), "a batch")

    def fork(self) -> TensorRTExecutable:
        """Return an executable with its own contexts: graphs captured from it stay valid while nothing else uses it."""
        return TensorRTExecutable(self._engine, self._scratch, capturable=self.capturable)

    def close(self) -> None:
        """Free the contexts, once nothing runs in them any more. Closing twice is fine."""
        self._contexts.clear()
        if self._open:
            self._open = False
            self._scratch.leave()

    def _context(self, shapes: Mapping[str, Shape], stream: Stream) -> Any:
        """Return the context of the smallest profile that holds the shapes, created when first needed."""
        index = self._engine.profile(shapes)
        if (context := self._contexts.get(index)) is not None:
            return context
        trt = self._engine.trt
        context = self._engine.raw.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self._error("it creates no context")
        context.nvtx_verbosity = (
            trt.ProfilingVerbosity.NONE
        )  # plans are built with detailed NVTX ranges, which slow launches
        # This enqueues work on the lane's stream, so it runs before the batch.
        self._require(context.set_optimization_profile_async(index, stream.handle), f"profile {index}")
        self._scratch.lend(context)
        self._contexts[index] = context
        return context

    def _require(self, good: bool, what: str) -> None:
        if not good:
            raise self._error(f"it refuses {what}")

    def _error(self, text: str) -> BackendError:
        return BackendError(f"graph {self._engine.name!r}: TensorRT failed: {text}: {self._engine.errors()}")
