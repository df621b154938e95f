"""The plans that a model needs on this GPU: for which graphs and sizes, and how to build them."""

from __future__ import annotations

from embedge.backends.base import BackendModel
from embedge.backends.gpu import policy
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.plans.key import BuildDevice, BuildFlags, PlanKey
from embedge.batches.shapes import resolve, symbols, unbounded
from embedge.config import RuntimeConfig
from embedge.cuda import Gpu
from embedge.errors import BackendError

__all__ = ["keys"]

_GIB = 1 << 30
# Shares of the GPU's memory that leave room for weights, batches and another process. Not measured yet.
_SHARE, _SMALL_SHARE, _MOST = 4, 8, 8 * _GIB
_LEVEL, _SMALL_LEVEL = 3, 2  # TensorRT's default, and one that tries fewer kernels at a time


def keys(model: BackendModel, gpu: Gpu) -> dict[str, PlanKey]:
    """Return the key of each graph's plan.

    Args:
        model: The graphs and the settings.
        gpu: The GPU that will run them.

    Raises:
        BackendError: TensorRT can't run a graph; the message says why.
    """
    manifest = model.bundle.manifest
    towers = list(model.probes.towers)
    sizes = policy.batch_profiles(model)
    reasons = unbounded(manifest, towers)
    for graph in model.graphs:
        if reason := reasons.get(graph) or _obstacle(model, graph):
            raise BackendError(f"graph {graph!r} cannot run on TensorRT: {reason}")
    device, version = BuildDevice.here(gpu), library.version()
    flags = _flags(model.config, device)
    return {
        graph: PlanKey.of(model.bundle, graph, sizes[graph], tensorrt=version, device=device, flags=flags)
        for graph in model.graphs
    }


def _flags(config: RuntimeConfig, device: BuildDevice) -> BuildFlags:
    little = policy.small_memory(config, device.memory * _GIB)
    share = min(device.memory * _GIB // (_SMALL_SHARE if little else _SHARE), _MOST)
    return BuildFlags(level=_SMALL_LEVEL if little else _LEVEL, workspace=config.scratch_bytes or share)


def _obstacle(model: BackendModel, graph: str) -> str:
    """Return why lanes couldn't feed the graph or read from it; an empty string if they can."""
    spec = model.bundle.manifest.graphs[graph]
    if not spec.inputs:
        return "it has no inputs"
    for each in (*spec.inputs, *spec.outputs):
        if each.dtype not in library.DTYPES or each.dtype == "bfloat16":  # bfloat16: NumPy lacks it
            return f"tensor {each.name!r} is {each.dtype}"
    ones = {each.name: tuple(1 for _ in each.shape) for each in spec.inputs}
    for each in spec.outputs:
        try:
            resolve(each, symbols(spec.inputs, ones))
        except KeyError as error:
            return f"the size {error.args[0]!r} of its output {each.name!r} depends on the data"
    return ""
