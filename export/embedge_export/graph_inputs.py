"""Graph inputs of a tower's parts: names, symbolic shapes, and examples to trace with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Part
from embedge.bundle.part_specs import (
    AudioPrepare,
    Fill,
    ImagePrepare,
    Prepare,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    VectorPrepare,
    VideoPrepare,
)
from embedge_export.errors import ExportError
from embedge_export.model import GraphInput

__all__ = ["BATCH", "inputs_of"]

BATCH = 3  # not 1: the exporter takes 1 for a constant
_TOKENS, _FRAMES, _WINDOWS, _TILES = 21, 5, 4, 6
_SECONDS = 0.6137  # of a clip: odd on purpose, so that hops and strides do not divide it


@dataclass(frozen=True)
class _RoleShape:
    """A part's role as a graph input: dtype, axes after `batch`, and (example, maximum) size of each symbol."""

    dtype: str
    axes: tuple[int | str, ...]
    sizes: Mapping[str, tuple[int, int]]


def inputs_of(parts: Mapping[str, Part], examples: Mapping[str, NDArray[Any]] | None = None) -> tuple[GraphInput, ...]:
    """Return the graph inputs of parts.

    Args:
        parts: The parts by name.
        examples: Examples by input name, (batch, …), for dtypes other than the default.

    Raises:
        ExportError: An example has an unknown name, or another shape.
    """
    named, given = dict(_shapes(parts)), examples or {}
    if unknown := set(given) - set(named):
        raise ExportError(f"unknown input {sorted(unknown)[0]!r}; the parts make: {', '.join(named)}")
    return tuple(_input(name, shape, fill, given.get(name)) for name, (shape, fill) in named.items())


def _input(name: str, shape: _RoleShape, fill: Fill, example: NDArray[np.generic] | None) -> GraphInput:
    axes = ("batch", *shape.axes)
    if example is None:
        example = _example(shape, fill)
    longest = {symbol: most for symbol, (_, most) in shape.sizes.items()}
    fits = example.ndim == len(axes) and all(
        size > 1 if isinstance(axis, str) else size == axis for axis, size in zip(axes, example.shape, strict=True)
    )
    if not fits:
        raise ExportError(f"the example of input {name!r} has the shape {example.shape}, the input has {axes}")
    return GraphInput(name, axes, example, longest)


def _example(shape: _RoleShape, fill: Fill) -> NDArray[np.generic]:
    sizes = [shape.sizes[axis][0] if isinstance(axis, str) else axis for axis in shape.axes]
    if fill.mask_of is not None:
        example = np.ones((BATCH, *sizes), shape.dtype)
        padded = slice(None, sizes[0] // 2) if fill.left else slice(sizes[0] // 2, None)
        example[1, padded] = 0
        return example
    if np.dtype(shape.dtype).kind == "f":
        return np.random.default_rng(0).uniform(-0.5, 0.5, (BATCH, *sizes)).astype(shape.dtype)
    return np.ones((BATCH, *sizes), shape.dtype)


def _shapes(parts: Mapping[str, Part]) -> Iterator[tuple[str, tuple[_RoleShape, Fill]]]:
    """Yield shape and fill of each graph input; axes of the same name in two parts get a prefix."""
    axes = {name: _axes(part.prepare) for name, part in parts.items()}
    own = Counter(symbol for name in parts for symbol in axes[name][1] if not _shared(parts[name].prepare))
    for name, part in parts.items():
        roles, sizes = axes[name]
        prefix = re.sub(r"\W", "_", name)
        rename = {
            symbol: f"{prefix}_{symbol}" if own[symbol] > 1 and not _shared(part.prepare) else symbol
            for symbol in sizes
        }
        fills = part.prepare.fills()
        for role, graph_input in part.prepare.inputs.items():
            dtype, shape = roles[role]
            named = tuple(rename[axis] if isinstance(axis, str) else axis for axis in shape)
            used = {rename[axis]: sizes[axis] for axis in shape if isinstance(axis, str)}
            yield graph_input, (_RoleShape(dtype, named, used), fills[graph_input])
        if part.presence is not None:
            yield part.presence, (_RoleShape("float32", (), {}), Fill())


def _shared(prepare: Prepare) -> bool:
    """Return whether a part shares its symbols with other parts of an item."""
    return isinstance(prepare, TensorPrepare)


_Roles = dict[str, tuple[str, tuple[int | str, ...]]]
_SymbolSizes = dict[str, tuple[int, int]]


def _axes(prepare: Prepare) -> tuple[_Roles, _SymbolSizes]:
    """Return dtype and axes by role, and (example, maximum) size of each symbol."""
    if isinstance(prepare, TextPrepare):
        tokens: tuple[int | str, ...] = (prepare.max_length,) if prepare.fixed_length else ("length",)
        roles: _Roles = dict.fromkeys(("ids", "mask", "types"), ("int64", tokens))
        sizes = {"length": (max(2, min(_TOKENS, prepare.max_length)), prepare.max_length)}
        return {**roles, "language": ("int64", ())}, sizes
    if isinstance(prepare, ImagePrepare):
        return _image(prepare)
    if isinstance(prepare, VideoPrepare):
        frames: int | str = "frames" if prepare.sampling == "fps" else prepare.frames
        roles = {"frames": ("uint8", (frames, *_pixels(prepare.image))), "mask": ("int64", (frames,))}
        return roles, {"frames": (max(2, min(_FRAMES, prepare.frames)), prepare.frames)}
    if isinstance(prepare, AudioPrepare):
        return _audio(prepare)
    if isinstance(prepare, TensorPrepare):
        return _tensor(prepare)
    if isinstance(prepare, TablePrepare):
        categories = sum(bool(column.categories) for column in prepare.columns)
        numbers: _Roles = {"numbers": ("float32", (len(prepare.columns) - categories,))}
        return {**numbers, "categories": ("int64", (categories,)), "observed": ("float32", (len(prepare.columns),))}, {}
    if isinstance(prepare, VectorPrepare):
        return {"values": ("float32", (prepare.dim,))}, {}
    raise ExportError(f"parts of modality {type(prepare).__name__} cannot be exported")


def _image(prepare: ImagePrepare) -> tuple[_Roles, _SymbolSizes]:
    if (tiles := prepare.tiles) is None:
        return {"pixels": ("uint8", _pixels(prepare))}, {}
    patches = (tiles.merge**2, 3 if prepare.mode == "RGB" else 1, tiles.patch, tiles.patch)
    roles: _Roles = {"pixels": ("uint8", ("tiles", *patches)), "mask": ("int64", ("tiles",)), "grid": ("int64", (2,))}
    return roles, {"tiles": (max(2, min(_TILES, tiles.most)), tiles.most)}


def _pixels(image: ImagePrepare) -> tuple[int, int, int]:
    return (3 if image.mode == "RGB" else 1, image.height, image.width)


def _audio(prepare: AudioPrepare) -> tuple[_Roles, _SymbolSizes]:
    most, least = round(prepare.max_seconds * prepare.rate), round(prepare.min_seconds * prepare.rate)
    if prepare.hop_seconds is not None:
        windows: tuple[str, tuple[int | str, ...]] = ("int64", ("windows",))
        roles: _Roles = {"samples": ("float32", ("windows", most)), "mask": windows, "length": windows}
        return roles, {"windows": (max(2, min(_WINDOWS, prepare.max_windows)), prepare.max_windows)}
    axis: int | str = most if prepare.fixed else "samples"
    sizes = {"samples": (min(most, max(least, round(_SECONDS * prepare.rate))), most)}
    return {"samples": ("float32", (axis,)), "mask": ("int64", (axis,)), "length": ("int64", ())}, sizes


def _tensor(prepare: TensorPrepare) -> tuple[_Roles, _SymbolSizes]:
    # A step fixes the number of rows.
    first: tuple[int | str, ...] = (prepare.steps[-1].count,) if prepare.steps else prepare.shape[:1]
    shape = (*first, *prepare.shape[1:])
    longest = prepare.max_length
    symbols = list(dict.fromkeys(axis for axis in shape if isinstance(axis, str)))
    sizes = {symbol: (max(2, min(19 + 2 * place, longest)), longest) for place, symbol in enumerate(symbols)}
    return {"values": (prepare.dtype, shape), "observed": ("float32", shape), "mask": ("int64", shape[:1])}, sizes
