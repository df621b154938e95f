"""Check a built engine against the graph: names, dtypes, and the precision its layers actually run in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from embedge.backends.tensorrt import library
from embedge.bundle.manifest import Graph
from embedge_export.tensorrt.failure import PlanError

__all__ = ["check_tensors", "precision_share"]

# Types of the layers that multiply matrices or convolve, in versions from 10 on.
_HEAVY = re.compile(r"gemm|matmul|matrixmultiply|conv|mha|attention|einsum|fullyconnected|^fc$", re.IGNORECASE)
_FORMATS = {
    "float32": r"\bfloat\b|\bfp32\b",
    "float16": r"\bhalf\b|\bfp16\b",
    "bfloat16": r"\bbfloat16\b|\bbf16\b",
    "int8": r"\bint8\b",
}
# A low-precision graph keeps some float32 layers, but few heavy ones.
_LEAST_SHARE = 0.5


def check_tensors(name: str, graph: Graph, engine: Any) -> None:
    """Check that the engine's inputs and outputs match the manifest.

    Args:
        name: The graph's name.
        graph: Its manifest entry.
        engine: TensorRT's `ICudaEngine`.

    Raises:
        PlanError: They don't.
    """
    trt = library.load()
    modes = {trt.TensorIOMode.INPUT: "input", trt.TensorIOMode.OUTPUT: "output"}
    tensors = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {each: (modes[engine.get_tensor_mode(each)], engine.get_tensor_dtype(each).name) for each in tensors}
    sides: dict[str, Sequence[Any]] = {"input": graph.inputs, "output": graph.outputs}
    wanted = {
        spec.name: (side, library.DTYPES.get(spec.dtype, spec.dtype)) for side, specs in sides.items() for spec in specs
    }
    for each in sorted(found.keys() | wanted.keys()):
        if found.get(each) != wanted.get(each):
            raise PlanError(
                "precision",
                f"graph {name!r}: the plan has the tensor {each!r} as {_told(found.get(each))}, the manifest as "
                f"{_told(wanted.get(each))}",
            )


def _told(tensor: tuple[str, str] | None) -> str:
    return "none" if tensor is None else f"{tensor[0]} of {tensor[1]}"


def precision_share(name: str, graph: Graph, engine: Any) -> float | None:
    """Return the share of heavy layers that run in the graph's precision, 0 to 1; None if the engine has none.

    Args:
        name: The graph's name.
        graph: Its manifest entry.
        engine: TensorRT's `ICudaEngine`.

    Raises:
        PlanError: Most heavy layers of a low-precision graph run in another precision, so the plan gains nothing.
    """
    trt = library.load()
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    layers = [layer for layer in json.loads(told).get("Layers", []) if isinstance(layer, dict) and _heavy(layer)]
    if not layers:
        return None
    wanted = re.compile(_FORMATS[graph.precision], re.IGNORECASE)
    share = sum(bool(wanted.search(_formats(layer))) for layer in layers) / len(layers)
    if graph.precision != "float32" and share < _LEAST_SHARE:
        raise PlanError(
            "precision",
            f"graph {name!r} is {graph.precision}, but only {share:.0%} of the {len(layers)} heavy layers of its plan "
            f"are; the others, such as {_other(layers, wanted)!r}, run as something else",
        )
    return share


def _heavy(layer: Mapping[str, Any]) -> bool:
    return bool(_HEAVY.search(str(layer.get("LayerType", ""))))


def _formats(layer: Mapping[str, Any]) -> str:
    """Return the formats of the layer's inputs."""
    return " ".join(str(each.get("Format/Datatype", "")) for each in layer.get("Inputs", []))


def _other(layers: Sequence[Mapping[str, Any]], wanted: re.Pattern[str]) -> str:
    return next(str(layer.get("Name", "")) for layer in layers if not wanted.search(_formats(layer)))
