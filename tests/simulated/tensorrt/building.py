"""The builder's half: networks from ONNX files, configurations, profiles, plans."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from typing import Any

import onnx
from onnx import helper, shape_inference

from tests.simulated.tensorrt.said import attach, elsewhere, report
from tests.simulated.tensorrt.state import State

__all__ = ["MAGIC", "building"]

MAGIC = b"simulated plan\n"
_TYPES = {
    "float32": ("FLOAT", "Float"),
    "float16": ("HALF", "Half"),
    "bfloat16": ("BF16", "BFloat16"),
    "int8": ("INT8", "Int8"),
    "int32": ("INT32", "Int32"),
    "int64": ("INT64", "Int64"),
    "bool": ("BOOL", "Bool"),
    "uint8": ("UINT8", "UInt8"),
}
_HEAVY = {"MatMul": "gemm", "Gemm": "gemm", "Conv": "CaskConvolution", "Attention": "fusedmha"}
_DEFAULT_FLAGS = {"TF32"}


class IHostMemory:
    """Bytes of TensorRT's own: read with bytes(), which the real one lets through its buffer."""

    __slots__ = ("_data", "nbytes")

    def __init__(self, data: bytes) -> None:
        self._data, self.nbytes = data, len(data)

    def __bytes__(self) -> bytes:
        return self._data


class ITensor:
    __slots__ = ("dtype", "is_shape_tensor", "name", "shape")

    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape, self.is_shape_tensor = name, dtype, shape, False


class IOptimizationProfile:
    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - the real one's names
        if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError(f"the shapes of {input} are not ascending")
        self._ranges[input] = [list(min), list(opt), list(max)]


class ParserError:
    """A parser error. Methods, as in the real one."""

    def __init__(self, code: Any, error: tuple[int, str, str, str]) -> None:
        self._code, self._error = code, error

    def code(self) -> Any:
        return self._code

    def node(self) -> int:
        return self._error[0]

    def node_name(self) -> str:
        return self._error[1]

    def node_operator(self) -> str:
        return self._error[2]

    def desc(self) -> str:
        return self._error[3]


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._data)


def building(state: State) -> dict[str, Any]:
    """Return the classes by name."""
    module = state.module

    class INetworkDefinition:
        __slots__ = ("_flags", "_inputs", "_model", "_outputs", "num_inputs")

        def __init__(self, flags: int) -> None:
            self._flags, self.num_inputs = flags, 0

        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

        @property
        def _strongly_typed(self) -> bool:
            return state.major > 10 or bool(self._flags >> int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1)

    class OnnxParser:
        __slots__ = ("_errors", "_network", "num_errors")

        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            attach(state, logger)
            self._network, self._errors, self.num_errors = network, [], 0

        def parse_from_file(self, model: str) -> bool:
            self._errors = [ParserError(module.ErrorCode.UNSUPPORTED_NODE, each) for each in state.troubles.parse]
            self.num_errors = len(self._errors)
            if self._errors:
                return False
            loaded = shape_inference.infer_shapes(onnx.load(model), data_prop=True)
            network = self._network
            network._model = loaded
            network._inputs = [_tensor(module, each) for each in loaded.graph.input]
            network._outputs = [_tensor(module, each) for each in loaded.graph.output]
            network.num_inputs = len(network._inputs)
            return True

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class IBuilderConfig:
        __slots__ = (
            "_flags",
            "_pools",
            "_profiles",
            "_timing",
            "builder_optimization_level",
            "max_aux_streams",
            "profiling_verbosity",
            "progress_monitor",
        )

        def __init__(self) -> None:
            self._flags, self._pools, self._profiles = set(_DEFAULT_FLAGS), {}, []
            self._timing: Any = None
            self.progress_monitor: Any = None
            self.builder_optimization_level, self.max_aux_streams = 3, -1
            self.profiling_verbosity = module.ProfilingVerbosity.LAYER_NAMES_ONLY

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._pools[pool.name] = int(pool_size)

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(flag.name)

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag.name)

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            header = f"timing {state.version} {state.device}".encode()
            data = bytes(cache.serialize())
            if data and not data.startswith(header) and not ignore_mismatch:
                return False
            cache._data = data or header
            self._timing = cache
            return True

    class Builder:
        __slots__ = ("_logger", "_owner", "error_recorder")

        def __init__(self, logger: Any) -> None:
            attach(state, logger)
            self._logger, self.error_recorder = logger, None
            self._owner = state.machine.single("the builder")

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
            with self._owner.use():
                state.builds += 1
                _check(state, network, config)
                state.building.set()
                if state.troubles.crash:
                    os._exit(139)
                if not _go_on(state, config.progress_monitor):
                    return None
                if state.troubles.memory:
                    text = "OutOfMemory (Requested size was 8589934592 bytes.)"
                    report(state, self.error_recorder, "FAILED_ALLOCATION", text)
                if state.troubles.memory or state.troubles.silent:
                    return None
                if config._timing is not None:
                    config._timing._data += b" build"
                return IHostMemory(_plan(state, network, config))

    made = (INetworkDefinition, OnnxParser, IBuilderConfig, Builder)
    shared = (IHostMemory, ITensor, IOptimizationProfile, ITimingCache, ParserError)
    return {each.__name__: each for each in (*made, *shared)}


def _tensor(module: Any, value: onnx.ValueInfoProto) -> ITensor:
    tensor = value.type.tensor_type
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(
        -1 if axis.dim_param or not axis.HasField("dim_value") else axis.dim_value for axis in tensor.shape.dim
    )
    return ITensor(value.name, module.DataType[_TYPES[dtype][0]], shape)


def _check(state: State, network: Any, config: Any) -> None:
    """Hold a build to our own rules: what the real one lets through, and makes wrong numbers or hungry plans of."""
    violate = state.machine.violate
    if not network._strongly_typed:
        violate("the network is weakly typed: TensorRT may choose another precision")
    if config._flags:
        violate(f"builder flags are set: {sorted(config._flags)}")
    if config.max_aux_streams != 0:
        violate("TensorRT may add streams of its own")
    if not 0 < config._pools.get("WORKSPACE", 0) <= state.machine.device.memory:
        violate("the workspace has no limit within the GPU's memory")
    dynamic = {each.name for each in network._inputs if -1 in each.shape}
    for profile in config._profiles:
        if profile._ranges.keys() != dynamic:
            violate(f"a profile is of {sorted(profile._ranges)}, the network's dynamic inputs are {sorted(dynamic)}")
    if dynamic and not config._profiles:
        violate("a network with dynamic inputs has no profile")


def _go_on(state: State, monitor: Any) -> bool:
    """Tell how far the build is; return False where that is asked to stop. TensorRT does it from threads of its own."""
    if monitor is None:
        return True
    outer, inner = "Building Engine", "Tactic Selection"
    elsewhere(lambda: monitor.phase_start(outer, None, 2))
    elsewhere(lambda: monitor.phase_start(inner, outer, 3))
    steps = 0
    going = True
    while going and (steps < 3 or state.troubles.endless):
        going = elsewhere(partial(monitor.step_complete, inner, min(steps, 2)))
        steps += 1
        if state.troubles.endless:
            threading.Event().wait(0.01)  # as a kernel that is timed
    elsewhere(lambda: monitor.phase_finish(inner))
    going = going and elsewhere(lambda: monitor.step_complete(outer, 0))
    elsewhere(lambda: monitor.phase_finish(outer))
    return bool(going)


def _plan(state: State, network: Any, config: Any) -> bytes:
    detailed = config.profiling_verbosity is state.module.ProfilingVerbosity.DETAILED
    head = {
        "version": state.version,
        "device": state.device,
        "inputs": [[each.name, each.dtype.name, each.shape] for each in network._inputs],
        "outputs": [[each.name, state.troubles.dtype or each.dtype.name, each.shape] for each in network._outputs],
        "profiles": [profile._ranges for profile in config._profiles],
        "layers": _layers(state, network._model, detailed),
        "wrong": state.troubles.wrong,
        "company": state.troubles.company,
        "nan": state.troubles.nan,
    }
    return MAGIC + json.dumps(head).encode() + b"\n" + network._model.SerializeToString()


def _layers(state: State, model: onnx.ModelProto, detailed: bool) -> list[Any]:
    """Return what the inspector tells of the heavy layers: only their names, unless plans are detailed."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {each.name: each.type.tensor_type.elem_type for each in values}
    types |= {each.name: each.data_type for each in model.graph.initializer}
    layers: list[Any] = []
    for number, node in enumerate(model.graph.node):
        if node.op_type in _HEAVY:
            name = node.name or f"{node.op_type}_{number}"
            given = [str(helper.tensor_dtype_to_np_dtype(types.get(each, 1))) for each in node.input]
            formats = ["Float" if state.troubles.single else _TYPES[each][1] for each in given]
            inputs = [{"Name": each, "Format/Datatype": kind} for each, kind in zip(node.input, formats, strict=True)]
            told = {"Name": name, "LayerType": _HEAVY[node.op_type], "Inputs": inputs, "Outputs": []}
            layers.append(told if detailed else name)
    return layers
