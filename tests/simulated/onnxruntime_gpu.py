"""ONNX Runtime with a CUDA provider: sessions of the real CPU package that run on the simulated GPU's streams.

It has no name that the real package lacks. What is read of the provider's options is what
`cuda_execution_provider_info.cc` parses, and of the run's what `onnxruntime_run_options_config_keys.h` lists.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tests.simulated.errors import Failure
from tests.simulated.machine import Machine

__all__ = ["OPTIONS", "cuda_provider"]

PROVIDER = "CUDAExecutionProvider"
OPTIONS = {
    *("device_id", "has_user_compute_stream", "user_compute_stream", "gpu_mem_limit", "arena_extend_strategy"),
    *("cudnn_conv_algo_search", "do_copy_in_default_stream", "gpu_external_alloc", "gpu_external_free"),
    *("gpu_external_empty_cache", "cudnn_conv_use_max_workspace", "enable_cuda_graph", "cudnn_conv1d_pad_to_nc1d"),
    *("tunable_op_enable", "tunable_op_tuning_enable", "tunable_op_max_tuning_duration_ms"),
    *("enable_skip_layer_norm_strict_mode", "prefer_nhwc", "use_ep_level_unified_stream", "use_tf32"),
}
VALUES = {
    "cudnn_conv_algo_search": {"EXHAUSTIVE", "HEURISTIC", "DEFAULT"},
    "arena_extend_strategy": {"kNextPowerOfTwo", "kSameAsRequested"},
}
_SECONDS = 1e-3  # of a run, on the simulated clock
_Real = onnxruntime.InferenceSession


@contextmanager
def cuda_provider(machine: Machine, *, loads: bool = True) -> Iterator[list[Session]]:
    """Let onnxruntime have the CUDA provider; yield the sessions that are opened. loads: whether its libraries do."""
    opened: list[Session] = []

    def open_session(path: Any, sess_options: Any = None, providers: Any = None, **more: Any) -> Any:
        if providers == ["CPUExecutionProvider"]:
            return _Real(path, sess_options, providers, **more)
        opened.append(Session(machine, loads, path, sess_options, providers, **more))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
        patch.setattr(onnxruntime, "InferenceSession", open_session)
        yield opened


class Session:
    """An `InferenceSession`."""

    def __init__(
        self,
        machine: Machine,
        loads: bool,
        path: str | os.PathLike[str],
        sess_options: Any = None,
        providers: Sequence[Any] | None = None,
        enable_fallback: int = 1,
    ) -> None:
        self.machine = machine
        self.options = _options(providers, machine)
        self.fallback = bool(enable_fallback)
        self._loaded = loads
        self._real = _Real(path, sess_options, providers=["CPUExecutionProvider"])
        self.stream = int(self.options.get("user_compute_stream", 0))

    def get_providers(self) -> list[str]:
        return [PROVIDER, "CPUExecutionProvider"] if self._loaded else ["CPUExecutionProvider"]

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_outputs(self) -> Any:
        return self._real.get_outputs()

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def run(self, output_names: Any, input_feed: Mapping[str, NDArray[Any]], run_options: Any = None) -> Any:
        """Copy in, run and copy out, and wait for it: here all of that is one piece of work.

        With a stream of its own that nobody else sees, it might as well run here and now.
        """
        if not self.stream:
            return self._real.run(output_names, dict(input_feed))
        made: list[Any] = []
        self._enqueue(lambda: made.extend(self._real.run(output_names, dict(input_feed))), [], [])
        self._wait()
        return made

    def run_with_iobinding(self, iobinding: IOBinding, run_options: Any = None) -> None:
        if iobinding.session is not self:
            raise ValueError("IOBinding must be used with the session that created it.")
        inputs, outputs = dict(iobinding.inputs), dict(iobinding.outputs)
        machine, real = self.machine, self._real

        def run() -> None:
            feeds = {name: machine.read(at, shape, dtype) for name, (at, shape, dtype) in inputs.items()}
            names = list(outputs)
            for name, array in zip(names, real.run(names, feeds), strict=True):
                at, shape, dtype = outputs[name]
                if array.shape != shape or array.dtype != dtype:  # the real one raises before it runs
                    machine.violate(f"output {name} is {array.dtype}{array.shape}, but bound as {dtype}{shape}")
                machine.write(at, array)

        self._enqueue(run, _ranges(inputs), _ranges(outputs))
        if run_options is None or _entry(run_options, "disable_synchronize_execution_providers") != "1":
            self._wait()

    def _enqueue(self, run: Any, reads: Any, writes: Any) -> None:
        with _raised():
            if not self.stream:
                self.machine.violate("the session has a stream of its own, which no lane waits for")
            self.machine.enqueue(self.stream, "compute", run, reads, writes, _SECONDS, "onnxruntime", capturable=False)

    def _wait(self) -> None:
        with _raised():
            self.machine.synchronise_stream(self.stream)


class IOBinding:
    """Names bound to device addresses; what is bound last holds."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.inputs: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        self.outputs: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        _on_gpu(self.session, device_type, device_id)
        self.inputs[name] = buffer_ptr, tuple(shape), np.dtype(element_type)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        _on_gpu(self.session, device_type, device_id)
        if not buffer_ptr or shape is None or element_type is None:
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        self.outputs[name] = buffer_ptr, tuple(shape), np.dtype(element_type)


def _options(providers: Sequence[Any] | None, machine: Machine) -> dict[str, str]:
    """Return the CUDA provider's options as text, which is how the real package passes them on."""
    if not providers or not isinstance(providers[0], tuple) or providers[0][0] != PROVIDER:
        raise ValueError("the simulated onnxruntime-gpu is asked for the CUDA provider, with options")
    options = {str(key): str(value) for key, value in providers[0][1].items()}
    if unknown := options.keys() - OPTIONS:
        raise ValueError(f"Unknown provider option: {min(unknown)}")
    for key, values in VALUES.items():
        if options.get(key, next(iter(values))) not in values:
            raise ValueError(f"Failed to parse provider option {key}")
    machine.init()
    machine.ordinal(int(options.get("device_id", 0)))
    return options


def _on_gpu(session: Session, device_type: str, device_id: int) -> None:
    if device_type != "cuda" or device_id != int(session.options.get("device_id", 0)):
        session.machine.violate(f"memory of {device_type}:{device_id} is bound to a session on another device")


def _entry(run_options: Any, key: str) -> str:
    try:
        return str(run_options.get_run_config_entry(key))
    except RuntimeError:  # which is how the real one says that it is not set
        return ""


def _ranges(bound: Mapping[str, tuple[int, tuple[int, ...], np.dtype[Any]]]) -> list[tuple[int, int]]:
    return [(at, int(np.prod(shape)) * dtype.itemsize) for at, shape, dtype in bound.values()]


@contextmanager
def _raised() -> Iterator[None]:
    """Raise errors of CUDA as ONNX Runtime does: a text, with CUDA's own words in it."""
    try:
        yield
    except Failure as failure:
        code, _, words = str(failure).partition(": ")
        raise RuntimeError(f"[ONNXRuntimeError] : 1 : FAIL : CUDA failure: {words or code} ; GPU=0") from failure
