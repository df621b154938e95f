"""Execution contexts: where most rules are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tests.simulated.tensorrt.said import report
from tests.simulated.tensorrt.state import State

if TYPE_CHECKING:
    from tests.simulated.tensorrt.running import Content

__all__ = ["execution_context", "numpy_dtype"]

_DTYPES = {"FLOAT": "float32", "HALF": "float16"}
_ALIGNMENT = 256
Shape = tuple[int, ...]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return what NumPy calls a DataType."""
    return np.dtype(_DTYPES.get(name, name.lower()))


def execution_context(state: State) -> Any:
    """Return the class IExecutionContext."""
    machine = state.machine

    class IExecutionContext:
        """A context with the strategy USER_MANAGED. One thread, one stream, one run after the other."""

        __slots__ = (
            "_addresses",
            "_consumed",
            "_content",
            "_engine",
            "_owner",
            "_profile",
            "_ran",
            "_recorder",
            "_scratch",
            "_shapes",
            "_stream",
            "nvtx_verbosity",
        )

        def __init__(self, engine: Any, content: Content, recorder: Any) -> None:
            self._engine, self._content, self._recorder = engine, content, recorder
            self._owner = machine.single("an execution context")
            self._profile = -1
            self._stream = 0
            self._consumed = 0
            self._scratch = (0, 0)
            self._shapes: dict[str, Shape] = {}
            self._addresses: dict[str, int] = {}
            self._ran: set[tuple[tuple[str, Shape], ...]] = set()
            self.nvtx_verbosity = state.module.ProfilingVerbosity.DETAILED

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            with self._owner.use():
                if not 0 <= profile_index < len(self._content.profiles):
                    return self._refuse(f"there is no profile {profile_index}")
                self._on(stream_handle)
                state.switches += bool(self._ran)
                self._profile = profile_index
                self._shapes.clear()
                self._addresses.clear()
                self._ran.clear()
                machine.enqueue(stream_handle, "", lambda: None, name="profile")
                return True

        def set_device_memory(self, memory: int, size: int) -> None:
            with self._owner.use():
                if memory % _ALIGNMENT:
                    machine.violate(f"scratch memory at {memory:#x} is not aligned")
                machine.memory.at(memory, size)
                if size < self._engine.device_memory_size_v2:
                    machine.violate(f"{size} bytes of scratch memory, {self._engine.device_memory_size_v2} are needed")
                self._scratch = (memory, size)

        def set_input_shape(self, name: str, shape: Shape) -> bool:
            with self._owner.use():
                if not isinstance(shape, (tuple, list)):
                    raise TypeError("set_input_shape(): incompatible function arguments")
                if name not in self._content.inputs or self._profile < 0:
                    return self._refuse(f"no input {name!r}, or no profile is set")
                least, _, most = self._content.range(name, self._profile)
                if len(shape) != len(most) or any(
                    not low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
                ):
                    return self._refuse(f"{name} {shape} is not within profile {self._profile}: {least} to {most}")
                self._shapes[name] = tuple(shape)
                return True

        def get_tensor_shape(self, name: str) -> Shape:
            with self._owner.use():
                if name in self._content.inputs:
                    return self._shapes.get(name, self._content.inputs[name][1])
                if self._unknown():
                    return self._content.outputs[name][1]
                return self._content.shapes(self._input_shapes())[name]

        def set_tensor_address(self, name: str, memory: int) -> bool:
            with self._owner.use():
                if name not in {**self._content.inputs, **self._content.outputs}:
                    return self._refuse(f"no tensor {name!r}")
                if memory % _ALIGNMENT:
                    machine.violate(f"{name} at {memory:#x} is not aligned to {_ALIGNMENT} bytes")
                self._addresses[name] = memory
                return True

        def set_input_consumed_event(self, event: int) -> bool:
            with self._owner.use():
                self._consumed = event
                return True

        def infer_shapes(self) -> list[str]:
            with self._owner.use():
                return self._unknown()

        def execute_async_v3(self, stream_handle: int) -> bool:
            with self._owner.use():
                self._on(stream_handle)
                if unknown := self._unknown():
                    machine.violate(f"no shape was set for {unknown}")
                if unbound := {**self._content.inputs, **self._content.outputs}.keys() - self._addresses.keys():
                    machine.violate(f"no address was set for {sorted(unbound)}")
                if not self._scratch[0]:
                    machine.violate("no scratch memory was set")
                key = tuple(sorted(self._shapes.items()))
                captured = machine.capture_status(stream_handle) == "active"
                if captured and key not in self._ran:
                    machine.violate(f"captured at {key} before an enqueue at this shape: that allocates and waits")
                self._enqueue(stream_handle, key if captured else None)
                self._ran.add(key)
                state.shapes.add(key)
                return True

        def _unknown(self) -> list[str]:
            dynamic = (name for name, (_, shape) in self._content.inputs.items() if -1 in shape)
            return [name for name in dynamic if name not in self._shapes]

        def _on(self, stream: int) -> None:
            if self._stream not in (0, stream):
                machine.violate("an execution context is used with a second stream")
            self._stream = stream

        def _refuse(self, text: str) -> bool:
            report(state, self._recorder, "INTERNAL_ERROR", text)
            return False

        def _input_shapes(self) -> dict[str, Shape]:
            return {name: self._shapes.get(name, shape) for name, (_, shape) in self._content.inputs.items()}

        def _enqueue(self, stream: int, captured: tuple[tuple[str, Shape], ...] | None) -> None:
            """Enqueue two kernels: one reads all inputs, and the event after it says that; one writes all outputs."""
            inputs = self._input_shapes()
            dtypes = {name: numpy_dtype(kind) for name, (kind, _) in self._content.inputs.items()}
            out = {name: numpy_dtype(kind) for name, (kind, _) in self._content.outputs.items()}
            shapes = self._content.shapes(inputs)
            at = dict(self._addresses)
            taken: dict[str, NDArray[Any]] = {}

            def nbytes(shape: Shape, dtype: np.dtype[Any]) -> int:
                return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize

            def read() -> None:
                if captured is not None and captured != tuple(sorted(self._shapes.items())):
                    machine.violate("a captured graph is launched whose context has another shape now: it is stale")
                if state.troubles.stale and captured is not None and taken:
                    return
                taken.update({name: machine.read(at[name], shape, dtypes[name]) for name, shape in inputs.items()})

            def compute() -> None:
                more = state.troubles.replayed if captured is not None else 0.0
                for name, array in self._content.compute(taken).items():
                    machine.write(at[name], (array + more if more else array).astype(out[name], copy=False))

            reads = [(at[name], nbytes(shape, dtypes[name])) for name, shape in inputs.items()]
            writes = [(at[name], nbytes(shape, out[name])) for name, shape in shapes.items()]
            seconds = state.troubles.seconds
            machine.enqueue(stream, "compute", read, reads, [self._scratch], 0.0, "inputs of a plan")
            if self._consumed:
                machine.record(self._consumed, stream)
            machine.enqueue(stream, "compute", compute, [], [*writes, self._scratch], seconds, "plan")

    return IExecutionContext
