"""A tower as a tree of its parts and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from embedge.bundle.manifest import SetSpec, Tower
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.bundle.part_specs import (
    AudioPrepare,
    CenterCrop,
    Column,
    ImagePrepare,
    ImageStep,
    Prepare,
    Resize,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    VectorPrepare,
    VideoPrepare,
)

__all__ = ["tower_tree"]

# Labels or categories listed by name; the rest are counted.
_NAMED = 8


def tower_tree(name: str, tower: Tower) -> Tree:
    """Return the tree of a tower."""
    tree = Tree(f"tower [bold]{escape(name)}[/]: {' → '.join(map(escape, tower.graphs))}")
    for part_name, part in tower.parts.items():
        summary, *details = _PARTS[type(part.prepare)](part.prepare)
        optional = ", optional" if part.optional else ""
        if part.set is not None:
            summary = f"{summary}: {_set(part.set)}"
        branch = tree.add(f"takes [bold]{escape(part_name)}[/]: {part.modality}, {escape(summary)}{optional}")
        for detail in details:
            branch.add(escape(detail))
    for output_name, output in tower.outputs.items():
        tree.add(f"gives [bold]{escape(output_name)}[/]: {output.kind}, {escape(_output(output))}")
    return tree


def _set(spec: SetSpec) -> str:
    pooled = "all" if spec.pool is None else f"the {spec.pool}"
    return f"{pooled} of a set of up to {spec.max_pieces:,} pieces, embedded by {spec.tower}"


def _text(spec: TextPrepare) -> Iterable[str]:
    yield f"up to {spec.max_length:,} tokens" + (", or a pair of them" if spec.pairs else "")
    for prompt, text in spec.prompts.items():
        yield f"prompt {prompt}{' (default)' if prompt == spec.default_prompt else ''}: {text!r}"
    if spec.instruction is not None:
        yield f"instruction: {spec.instruction!r}"
    if spec.languages:
        default = f"; {spec.default_language} if none is named" if spec.default_language else ""
        yield f"languages: {_some(spec.languages)}{default}"


def _image(spec: ImagePrepare) -> Iterable[str]:
    if (tiles := spec.tiles) is not None:
        yield f"seen as up to {tiles.most:,} tiles of {tiles.edge} x {tiles.edge} {spec.mode}, its ratio kept"
        yield f"scaled to {tiles.min_pixels:,} to {tiles.max_pixels:,} pixels ({tiles.resample})"
        return
    yield f"seen as {spec.height} x {spec.width} {spec.mode}"
    if spec.steps:
        yield ", then ".join(map(_step, spec.steps))


def _step(step: ImageStep) -> str:
    size = f"{step.height} x {step.width}"
    if isinstance(step, CenterCrop):
        return f"the middle {size} cut out"
    if not isinstance(step, Resize):
        return f"put on a canvas of {size}, {'its middle' if step.place == 'center' else 'at its top left'}"
    goal = {"exact": f"to {size}", "shortest": f"to a shorter edge of {step.height}", "inside": f"to fit {size}"}
    return f"scaled {goal[step.fit]} ({step.resample})"


def _audio(spec: AudioPrepare) -> Iterable[str]:
    yield f"heard at {spec.rate:,} Hz, {spec.min_seconds:g} to {spec.max_seconds:g} s"
    if spec.hop_seconds is not None:
        yield f"in windows of {spec.max_seconds:g} s, one every {spec.hop_seconds:g} s, at most {spec.max_windows}"


def _video(spec: VideoPrepare) -> Iterable[str]:
    how = {
        "uniform": "over its whole length",
        "center": f"around its middle, {spec.stride} apart",
        "fps": f"at {spec.fps:g} a second",
    }
    yield f"{'up to ' if spec.sampling == 'fps' else ''}{spec.frames} frames {how[spec.sampling]}"
    yield from (f"frames {each}" for each in _image(spec.image))
    yield f"up to {spec.max_seconds:g} s"


def _tensor(spec: TensorPrepare) -> Iterable[str]:
    yield f"{spec.dtype} ({', '.join(map(str, spec.shape))})"
    if any(isinstance(size, str) for size in spec.shape):
        yield f"up to {spec.max_length:,} along an axis with a name"
    if bounds := _bounds(spec):
        yield f"numbers {bounds}"
    if spec.missing == "mask":
        yield "NaN stands for a number that is missing"


def _table(spec: TablePrepare) -> Iterable[str]:
    yield f"{len(spec.columns)} columns"
    for column in spec.columns:
        held = f"one of {_some(column.categories)}" if column.categories else f"number {_bounds(column)}".strip()
        yield f"{column.name}: {held}{', may be missing' if column.missing else ''}"


def _vector(spec: VectorPrepare) -> Iterable[str]:
    yield f"{spec.dim:,} numbers" + (f" of space {spec.space}" if spec.space else "")


def _bounds(spec: TensorPrepare | Column) -> str:
    low = "" if spec.minimum is None else f"from {spec.minimum:g}"
    high = "" if spec.maximum is None else f"up to {spec.maximum:g}"
    return f"{low} {high}".strip()


def _output(output: Output) -> str:
    if isinstance(output, ScoresOutput):
        return f"of {_some(output.labels)}"
    if isinstance(output, SparseOutput):
        return f"of {output.dim:,} entries" + (f", the highest {output.top:,}" if output.top else "")
    if isinstance(output, CodesOutput):
        return f"{output.dim:,} {output.form}" + (" a place" if output.ragged else "")
    if isinstance(output, GaussianOutput):
        return f"a mean and a log-variance of {output.dim:,} numbers"
    return _vectors(output)


def _vectors(output: DenseOutput | MultiVectorOutput) -> str:
    many = " a place" if output.ragged else ""
    length = "length 1" if output.normalized else "length as it comes"
    cut = ", ".join(map(str, output.dims)) if output.dims else "any size"
    return f"{output.dim:,} numbers{many}, {length}, can be cut to {cut}"


def _some(names: Iterable[str]) -> str:
    known = list(names)
    rest = len(known) - _NAMED
    return ", ".join(known[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


_PARTS: dict[type[Prepare], Callable[[Any], Iterable[str]]] = {
    TextPrepare: _text,
    ImagePrepare: _image,
    AudioPrepare: _audio,
    VideoPrepare: _video,
    TensorPrepare: _tensor,
    TablePrepare: _table,
    VectorPrepare: _vector,
}
