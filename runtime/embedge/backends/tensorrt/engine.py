"""An engine: a plan made ready on this GPU, once a process, for all lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embedge.backends.tensorrt import library
from embedge.batches.shapes import Profile, Range, Shape, holds, resolve, symbols
from embedge.bundle.manifest import Graph
from embedge.errors import BackendError

__all__ = ["Engine", "Unfit"]


class Unfit(BackendError):
    """The plan was made for another GPU or another version of TensorRT; it has to be built anew."""


class Engine:
    """A deserialised plan. Immutable, and shared by threads; each makes contexts of its own.

    inputs, outputs: dtypes by name. profiles: sizes of the inputs, from the least batch to the largest. scratch: bytes
    of device memory that a context needs, whatever its profile.
    """

    def __init__(self, name: str, graph: Graph, plan: bytes) -> None:
        """Deserialise a plan that has been verified: it is code. Raises Unfit, BackendError, Unavailable."""
        self.name = name
        self.trt = trt = library.load()
        logger = library.logger(trt)
        logger.said.take()
        # The runtime outlives the engine, and keeps code of the host that a plan may hold from running: by default.
        self._runtime = trt.Runtime(logger)
        self._recorder = library.recorder(trt)
        self._runtime.error_recorder = self._recorder
        self.raw = self._runtime.deserialize_cuda_engine(plan)
        if self.raw is None:
            said = [*logger.said.take(), *self._recorder.said.take()]
            told = "; ".join(said) or "it does not say why"
            if library.out_of_memory(said):
                raise BackendError(f"graph {name!r}: the GPU has no memory left for its plan: {told}")
            raise Unfit(f"graph {name!r}: TensorRT {trt.__version__} does not take the plan: {told}")
        self._graph = graph
        self.inputs: Mapping[str, np.dtype[Any]] = {each.name: np.dtype(each.dtype) for each in graph.inputs}
        self.outputs: Mapping[str, np.dtype[Any]] = {each.name: np.dtype(each.dtype) for each in graph.outputs}
        count = self.raw.num_optimization_profiles
        self.profiles = [self._profile(index) for index in range(count)]
        self.scratch = int(self.raw.device_memory_size_v2)

    def profile(self, shapes: Mapping[str, Shape]) -> int:
        """Return the number of the smallest profile that holds these inputs. Raises BackendError."""
        for index, profile in enumerate(self.profiles):
            if holds(profile, shapes):
                return index
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        most = ", ".join(f"{name} {each.most}" for name, each in self.profiles[-1].items())
        raise BackendError(f"graph {self.name!r}: its plan is for batches up to {most}, and was given {told}")

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the outputs' shapes for inputs of these shapes. Raises BackendError where no profile holds them."""
        self.profile(inputs)
        known = symbols(self._graph.inputs, inputs)
        return {each.name: resolve(each, known) for each in self._graph.outputs}

    def said(self) -> str:
        """Return what TensorRT said went wrong since it was last asked, on this engine or another one."""
        return "; ".join(self._recorder.said.take() + library.logger(self.trt).said.take()) or "it does not say why"

    def _profile(self, index: int) -> Profile:
        return {
            name: Range(*(tuple(shape) for shape in self.raw.get_tensor_profile_shape(name, index)))
            for name in self.inputs
        }
