"""The runtime's half: engines, inspectors, execution contexts."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.simulated.tensorrt.building import MAGIC
from tests.simulated.tensorrt.context import execution_context, numpy_dtype
from tests.simulated.tensorrt.said import attach, report
from tests.simulated.tensorrt.state import State

__all__ = ["running"]

_SCRATCH_A_NUMBER = 8  # bytes of device memory that a context needs for each number of its largest inputs
_ALIGNMENT = 256


class Content:
    """What is in a plan, and the numbers that its graph gives."""

    def __init__(self, plan: bytes) -> None:
        head, _, model = plan.removeprefix(MAGIC).partition(b"\n")
        facts: dict[str, Any] = json.loads(head)
        self.version, self.device, self.layers = facts["version"], facts["device"], facts["layers"]
        self.inputs = {name: (dtype, tuple(shape)) for name, dtype, shape in facts["inputs"]}
        self.outputs = {name: (dtype, tuple(shape)) for name, dtype, shape in facts["outputs"]}
        self.profiles: list[dict[str, list[list[int]]]] = facts["profiles"] or [{}]
        self._wrong, self._company, self._nan = facts["wrong"], facts["company"], facts["nan"]
        self._model = model
        self._session: Any = None
        self._shapes: dict[Any, dict[str, tuple[int, ...]]] = {}
        self._lock = threading.Lock()  # held by the thread that makes the session

    @property
    def session(self) -> Any:
        with self._lock:
            if self._session is None:
                options = ort.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                self._session = ort.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
            return self._session

    def scratch(self, index: int) -> int:
        """Return the bytes that a context needs in a profile."""
        numbers = sum(int(np.prod(most)) for _, _, most in self.profiles[index].values())
        return -(-max(1, numbers * _SCRATCH_A_NUMBER) // _ALIGNMENT) * _ALIGNMENT

    def range(self, name: str, index: int) -> list[tuple[int, ...]]:
        """Return least, usual and most sizes of an input in a profile."""
        fixed = self.inputs[name][1]
        return [tuple(each) for each in self.profiles[index].get(name, [fixed] * 3)]

    def shapes(self, inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the outputs' shapes, found by computing with zeros, once."""
        key = tuple(sorted(inputs.items()))
        if key not in self._shapes:
            zeros = {name: np.zeros(shape, numpy_dtype(self.inputs[name][0])) for name, shape in inputs.items()}
            self._shapes[key] = {name: array.shape for name, array in self.compute(zeros).items()}
        return self._shapes[key]

    def compute(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs, with what is wrong with them."""
        names = list(self.outputs)
        made = dict(zip(names, self.session.run(names, inputs), strict=True))
        for name, array in made.items():
            if array.dtype.kind == "f" and array.size:
                row = np.arange(array[0].size).reshape(array[0].shape) / array[0].size
                changed = array + self._wrong * row
                changed[1:] += self._company * row
                made[name] = (np.full_like(array, np.nan) if self._nan else changed).astype(array.dtype)
        return made


def running(state: State) -> dict[str, Any]:
    """Return the classes by name."""
    module, machine = state.module, state.machine
    context_class = execution_context(state)

    class EngineInspector:
        __slots__ = ("_content",)

        def __init__(self, content: Content) -> None:
            self._content = content

        def get_engine_information(self, format: Any) -> str:  # noqa: A002 - the real one's name
            if format is not module.LayerInformationFormat.JSON:
                raise NotImplementedError("only JSON is simulated")
            return json.dumps({"Layers": self._content.layers, "Bindings": []})

    class ICudaEngine:
        __slots__ = (
            "_content",
            "_context",
            "_names",
            "_recorder",
            "_runtime",
            "device_memory_size_v2",
            "num_io_tensors",
            "num_optimization_profiles",
        )

        def __init__(self, content: Content, recorder: Any) -> None:
            state.engines += 1
            self._content, self._recorder = content, recorder
            self._context = machine.contexts.primary  # its weights are there
            self._names = [*content.inputs, *content.outputs]
            self.num_io_tensors, self.num_optimization_profiles = len(self._names), len(content.profiles)
            self.device_memory_size_v2 = max(map(content.scratch, range(len(content.profiles))))

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> Any:
            modes = module.TensorIOMode
            return modes.INPUT if name in self._content.inputs else modes.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return module.DataType[{**self._content.inputs, **self._content.outputs}[name][0]]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            return self._content.range(name, profile_index)

        def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
            return self._content.scratch(profile_index)

        def create_engine_inspector(self) -> EngineInspector:
            return EngineInspector(self._content)

        def create_execution_context(self, strategy: Any = module.ExecutionContextAllocationStrategy.STATIC) -> Any:
            machine.memory_info()  # needs a context of CUDA in this thread
            if self._context not in (None, machine.contexts.primary):
                machine.violate("an engine is used whose context was thrown away, and its weights with it")
            if strategy is not module.ExecutionContextAllocationStrategy.USER_MANAGED:
                machine.violate("a context takes memory of its own, for the largest of all profiles")
            state.contexts += 1
            return context_class(self, self._content, self._recorder)

    class Runtime:
        __slots__ = ("_allowed", "error_recorder")

        def __init__(self, logger: Any) -> None:
            attach(state, logger)
            self._allowed, self.error_recorder = False, None

        @property
        def engine_host_code_allowed(self) -> bool:
            return self._allowed

        @engine_host_code_allowed.setter
        def engine_host_code_allowed(self, allowed: bool) -> None:
            if allowed:
                machine.violate("code of the host in a plan is allowed to run")

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            content = Content(serialized_engine) if serialized_engine.startswith(MAGIC) else None
            if content is None:
                report(state, self.error_recorder, "INTERNAL_ERROR", "Serialization (Magic tag does not match)")
            elif content.version != state.version:
                text = f"The plan is of version {content.version}, this library is {state.version}"
                report(state, self.error_recorder, "INTERNAL_ERROR", text)
            elif content.device != state.device:
                report(state, self.error_recorder, "INTERNAL_ERROR", f"The plan is for the device {content.device}")
            elif state.troubles.full:
                report(state, self.error_recorder, "FAILED_ALLOCATION", "Requested amount could not be allocated")
            else:
                return ICudaEngine(content, self.error_recorder)
            return None

    return {each.__name__: each for each in (Runtime, ICudaEngine, EngineInspector, context_class)}
