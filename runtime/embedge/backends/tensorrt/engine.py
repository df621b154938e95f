"""An engine: a plan deserialized on this GPU, once per process, for all lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embedge.backends.tensorrt import library
from embedge.batches.shapes import Profile, Range, Shape, holds, resolve, symbols
from embedge.bundle.manifest import Graph
from embedge.errors import BackendError

__all__ = ["Engine", "IncompatiblePlan"]

_NO_REASON = "TensorRT gives no reason"


class IncompatiblePlan(BackendError):
    """The plan was built for another GPU or another TensorRT version, and has to be rebuilt."""


class Engine:
    """A deserialized plan. Immutable and shared by threads; each creates its own execution contexts.

    Attributes:
        name: The graph's name.
        trt: The module `tensorrt`.
        raw: TensorRT's `ICudaEngine`.
        inputs: Dtypes by input.
        outputs: Dtypes by output.
        profiles: Shapes that each profile takes, from the smallest batch to the largest.
        scratch: Bytes of device memory that a context needs, whatever its profile.
    """

    def __init__(self, name: str, graph: Graph, plan: bytes) -> None:
        """Deserialize a plan. Verify it first: it is machine code.

        Args:
            name: The graph's name.
            graph: The graph's manifest entry.
            plan: The plan as it was built.

        Raises:
            IncompatiblePlan: It was built for another GPU or another TensorRT version.
            BackendError: The GPU has too little memory left.
            Unavailable: TensorRT can't be used here.
        """
        self.name = name
        self.trt = trt = library.load()
        logger = library.logger(trt)
        logger.messages.take()
        # It has to outlive the engine. By default it also refuses plans that contain host code.
        self._runtime = trt.Runtime(logger)
        self._recorder = library.recorder(trt)
        self._runtime.error_recorder = self._recorder
        self.raw = self._runtime.deserialize_cuda_engine(plan)
        if self.raw is None:
            raise self._refusal([*logger.messages.take(), *self._recorder.messages.take()])
        self._graph = graph
        self.inputs: Mapping[str, np.dtype[Any]] = {each.name: np.dtype(each.dtype) for each in graph.inputs}
        self.outputs: Mapping[str, np.dtype[Any]] = {each.name: np.dtype(each.dtype) for each in graph.outputs}
        count = self.raw.num_optimization_profiles
        self.profiles = [self._profile(index) for index in range(count)]
        self.scratch = int(self.raw.device_memory_size_v2)

    def profile(self, shapes: Mapping[str, Shape]) -> int:
        """Return the index of the smallest profile that holds inputs of these shapes.

        Raises:
            BackendError: No profile does.
        """
        for index, profile in enumerate(self.profiles):
            if holds(profile, shapes):
                return index
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        most = ", ".join(f"{name} {each.most}" for name, each in self.profiles[-1].items())
        raise BackendError(f"graph {self.name!r}: its plan is for batches up to {most}, and was given {given}")

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of the outputs for inputs of these shapes.

        Raises:
            BackendError: No profile holds them.
        """
        self.profile(inputs)
        known = symbols(self._graph.inputs, inputs)
        return {each.name: resolve(each, known) for each in self._graph.outputs}

    def errors(self) -> str:
        """Return the errors that TensorRT reported since the last call, on this engine or another one."""
        return "; ".join(self._recorder.messages.take() + library.logger(self.trt).messages.take()) or _NO_REASON

    def _refusal(self, errors: list[str]) -> BackendError:
        reason = "; ".join(errors) or _NO_REASON
        if library.out_of_memory(errors):
            return BackendError(f"graph {self.name!r}: the GPU has no memory left for its plan: {reason}")
        version = self.trt.__version__
        return IncompatiblePlan(f"graph {self.name!r}: TensorRT {version} does not take the plan: {reason}")

    def _profile(self, index: int) -> Profile:
        return {
            name: Range(*(tuple(shape) for shape in self.raw.get_tensor_profile_shape(name, index)))
            for name in self.inputs
        }
