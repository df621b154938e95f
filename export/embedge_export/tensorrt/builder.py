"""Build a plan: parse the graph, add its profiles, build. Plans are strongly typed: the graph sets the precision.

Run one build at a time: TensorRT's builder doesn't support more.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.plans.timing import TimingCache
from embedge.batches.shapes import Range
from embedge_export.tensorrt.failure import PlanError, cancelled, not_built, not_parsed
from embedge_export.tensorrt.monitor import OnProgress, monitor

__all__ = ["Order", "build"]


@dataclass(frozen=True)
class Order:
    """What to build.

    Attributes:
        graph: The graph's name, for messages.
        path: The ONNX file.
        profiles: Ranges of the input shapes, by input.
        level: How long to search, 0 to 5.
        workspace: Bytes of GPU memory that a layer may use besides its inputs and outputs.
        timing: Kernel timings of earlier builds, which this build extends; None keeps none.
    """

    graph: str
    path: Path
    profiles: Sequence[Mapping[str, Range]]
    level: int
    workspace: int
    timing: TimingCache | None = None


def build(order: Order, tell: OnProgress, stop: threading.Event) -> bytes:
    """Build a plan, and return its bytes.

    Args:
        order: What to build.
        tell: Called with the build's progress, from any of TensorRT's threads.
        stop: The build ends soon after this is set.

    Raises:
        PlanError: The graph can't be built, or the build was stopped.
    """
    trt = library.load()
    logger, recorder = library.logger(trt), library.recorder(trt)
    logger.messages.take()
    builder = trt.Builder(logger)
    builder.error_recorder = recorder
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(order.path)):
        raise not_parsed(order.graph, trt.__version__, parser)
    config = _configured(trt, builder, order)
    config.progress_monitor = progress = monitor(trt, tell, stop)
    _add_profiles(builder, config, network, order)
    cache = _timed(config, order.timing)
    plan = builder.build_serialized_network(network, config)
    del progress  # it had to live as long as the build
    if stop.is_set():
        raise cancelled(order.graph)
    if plan is None:
        raise not_built(order.graph, trt.__version__, [*logger.messages.take(), *recorder.messages.take()])
    if order.timing is not None:
        order.timing.merge(lambda kept: bytes(cache.serialize()), stop)  # no other build runs meanwhile
    return bytes(plan)


def _network_flags(trt: Any) -> int:
    """Return the flag of strong typing, for versions where it isn't the only way."""
    member = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if member is None else 1 << int(member)


def _configured(trt: Any, builder: Any, order: Order) -> Any:
    config = builder.create_builder_config()
    # By default a layer may take all of the GPU's memory, and others need some.
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace)
    # TF32 is on by default and rounds float32 to 10 bits of mantissa: vectors would differ from the certified ones.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.max_aux_streams = 0  # a lane has one stream; several lanes fill the GPU
    config.builder_optimization_level = order.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector reports precisions
    return config


def _add_profiles(builder: Any, config: Any, network: Any, order: Order) -> None:
    """Add all profiles, for inputs with dynamic axes. Raises PlanError."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for profile in order.profiles:
        if unlike := {each.name for each in inputs} ^ profile.keys():
            raise PlanError(
                "other", f"graph {order.graph!r}: its file and the manifest differ in the input {min(unlike)!r}"
            )
        made = builder.create_optimization_profile()
        for each in inputs:
            _check_input(order.graph, each, profile)
            if any(size < 0 for size in each.shape):
                made.set_shape(each.name, *profile[each.name])
        if any(size < 0 for each in inputs for size in each.shape) and config.add_optimization_profile(made) < 0:
            raise PlanError("other", f"graph {order.graph!r}: TensorRT does not take the sizes {dict(profile)}")


def _check_input(graph: str, tensor: Any, profile: Mapping[str, Range]) -> None:
    """Raise PlanError for inputs that a lane can't feed: shape tensors, and fixed axes where batches differ."""
    if tensor.is_shape_tensor:
        raise PlanError(
            "other", f"graph {graph!r}: input {tensor.name!r} is a size, not data; use another backend for it"
        )
    least, _, most = profile[tensor.name]
    shape = tuple(tensor.shape)
    if len(shape) != len(most) or any(
        size >= 0 and not size == low == high for size, low, high in zip(shape, least, most, strict=True)
    ):
        raise PlanError(
            "other",
            f"graph {graph!r}: input {tensor.name!r} has the fixed shape {shape}, but is given {least} to {most}; "
            "export the bundle again with these axes dynamic",
        )


def _timed(config: Any, timing: TimingCache | None) -> Any:
    """Give the builder the timings of earlier builds, if they match; return the cache that it fills."""
    cache = config.create_timing_cache(b"" if timing is None else timing.read())
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache
