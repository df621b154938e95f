"""The sizes that the tensors of each graph can have, derived from the manifest."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from embedge.batches.probes import Probes
from embedge.bundle.manifest import Chain, Manifest, TensorSpec, Tower
from embedge.bundle.part_specs import AudioPrepare, Prepare, TensorPrepare
from embedge.errors import BundleError

__all__ = ["Bucket", "Profile", "Range", "Shape", "buckets", "holds", "profiles", "resolve", "symbols", "unbounded"]

Shape = tuple[int, ...]


class Range(NamedTuple):
    """The sizes of one tensor, axis by axis: the least, the usual one to optimize for, and the most."""

    least: Shape
    usual: Shape
    most: Shape


Profile = Mapping[str, Range]
"""By graph input, its sizes in batches up to one length."""


def holds(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    """Return whether inputs of these shapes are within the profile."""
    return all(
        len(shapes[name]) == len(each.most)
        and all(low <= size <= high for low, size, high in zip(each.least, shapes[name], each.most, strict=True))
        for name, each in profile.items()
    )


def symbols(specs: Iterable[TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Return the values of the specs' symbols, from tensors of these shapes.

    An axis with an expression, such as `length + 1`, defines no symbol. Of several sizes for a symbol the largest
    counts: inputs that share an axis may have different limits.

    Raises:
        BundleError: A shape has another number of axes than its spec.
    """
    known: dict[str, int] = {}
    for spec in specs:
        shape = shapes[spec.name]
        if len(shape) != len(spec.shape):
            raise BundleError(f"tensor {spec.name!r} has the shape {shape}, not {spec.shape}; export the bundle again")
        for axis, size in zip(spec.shape, shape, strict=True):
            if isinstance(axis, str) and axis.isidentifier():
                known[axis] = max(size, known.get(axis, 0))
    return known


def resolve(spec: TensorSpec, known: Mapping[str, int]) -> Shape:
    """Return a tensor's shape from the values of its symbols. Raises KeyError with an undefined axis."""
    return tuple(axis if isinstance(axis, int) else _size(axis, known) for axis in spec.shape)


def profiles(
    probes: Probes,
    manifest: Manifest,
    towers: Collection[str],
    *,
    max_batch_size: int,
    max_batch_tokens: int,
    length_multiple: int = 1,
    lengths: Sequence[int] | None = None,
) -> dict[str, tuple[Profile, ...]]:
    """Return the profiles of each graph, one for each length bucket.

    A profile holds all smaller batches, so every batch has a smallest profile.

    Args:
        probes: The loaded towers and their layouts.
        manifest: The model's manifest.
        towers: The towers to include.
        max_batch_size: Rows of a batch at most.
        max_batch_tokens: Padded tokens of a batch at most.
        length_multiple: Widths are padded to a multiple of it.
        lengths: Buckets instead of the bundle's.

    Returns:
        By graph, its profiles in ascending order; () for a graph in `unbounded`.
    """
    found: dict[str, dict[tuple[Shape, ...], Profile]] = {}
    for name in towers:
        tower = manifest.towers[name]
        sizes = _Sizes(probes, name, length_multiple)
        turns = len(tower.chain.modules) if tower.chain is not None and tower.chain.trail else 1
        for bucket in buckets(
            probes, name, max_batch_size=max_batch_size, max_batch_tokens=max_batch_tokens, lengths=lengths
        ):
            corners = ((1, 0, 1), (bucket.usual, bucket.longest, turns), (bucket.rows, bucket.longest, turns))
            walks = [list(_walk(manifest, tower, sizes(rows, length), rows, each)) for rows, length, each in corners]
            for steps in zip(*walks, strict=True):
                profile = None if any(step.reason for step in steps) else _profile(*(step.shapes for step in steps))
                own = found.setdefault(steps[0].graph, {})
                if profile is not None:
                    own.setdefault(tuple(profile[each].most for each in sorted(profile)), profile)
    unknown = unbounded(manifest, towers)
    return {
        graph: () if graph in unknown else tuple(own[most] for most in sorted(own, key=_volume))
        for graph, own in found.items()
    }


def unbounded(manifest: Manifest, towers: Collection[str]) -> dict[str, str]:
    """Return, by graph, why one of its inputs is unbounded: its size depends on the data."""
    reasons: dict[str, str] = {}
    for name in towers:
        tower = manifest.towers[name]
        shapes = {
            spec.name: tuple(axis if isinstance(axis, int) else 2 for axis in spec.shape)
            for graph in tower.graphs
            for spec in manifest.graphs[graph].inputs
            if spec.name in _given(tower)
        }
        reasons |= {step.graph: step.reason for step in _walk(manifest, tower, shapes, 2) if step.reason}
    return reasons


class Bucket(NamedTuple):
    """Batches with a longest row of `shortest` to `longest` tokens.

    Attributes:
        shortest: Least length of the longest row.
        longest: Greatest length of the longest row.
        rows: Rows of a batch at most.
        usual: Rows of the largest batch of full length, as under load.
    """

    shortest: int
    longest: int
    rows: int
    usual: int


def buckets(
    probes: Probes, tower: str, *, max_batch_size: int, max_batch_tokens: int, lengths: Sequence[int] | None = None
) -> list[Bucket]:
    """Return a tower's buckets, ascending; one if all its rows have the same length. See `profiles` for the arguments.

    A bucket has as many rows as fit into a batch of its shortest length, or as many as the warm-up measures.
    """
    spec = probes.towers[tower]
    limit = max(spec.buckets.lengths)
    chosen = spec.buckets.lengths if lengths is None else lengths
    ladder = [*sorted(length for length in {*chosen} if length < limit), limit]
    if not probes.layouts[tower].varies:
        ladder = [limit]
    cap = max(2, max_batch_size, *spec.buckets.batches)  # a lane tests itself with two rows
    before = 0 if probes.layouts[tower].varies else limit - 1
    found = []
    for length in ladder:
        usual = min(max_batch_size, max(1, max_batch_tokens // length))
        found.append(Bucket(before + 1, length, min(cap, max(2, max_batch_tokens // (before + 1))), usual))
        before = length
    return found


class _Step(NamedTuple):
    """A graph with the shapes of its inputs, or why they are unknown."""

    graph: str
    shapes: dict[str, Shape]
    reason: str = ""


def _given(tower: Tower) -> set[str]:
    """Return the names of the prepared tensors."""
    return {name for part in tower.parts.values() for name in part.fills()}


def _walk(
    manifest: Manifest, tower: Tower, prepared: Mapping[str, Shape], rows: int, turns: int = 1
) -> Iterator[_Step]:
    """Yield the tower's graphs in order with the shapes of their inputs, of a batch of `rows` rows.

    turns: after how many turns of a chain its steps see a row's state; of outputs that are read from each, from all.
    """
    known: dict[str, Shape] = dict(prepared)
    missing: dict[str, str] = {}
    if tower.chain is not None:
        yield from (_Step(graph, shapes) for graph, shapes in _modules(manifest, tower.chain, known, rows))
        known = {tower.chain.takes: _state(manifest, tower.chain, rows * turns)}
    for graph in tower.steps:
        spec = manifest.graphs[graph]
        reason = next((missing[each.name] for each in spec.inputs if each.name in missing), "")
        shapes = {} if reason else {each.name: known[each.name] for each in spec.inputs}
        yield _Step(graph, shapes, reason)
        sizes = {} if reason else symbols(spec.inputs, shapes)
        for each in spec.outputs:
            try:
                known[each.name] = resolve(each, sizes)
            except KeyError as error:
                unknown = f"tensor {each.name!r} of graph {graph!r} has the axis {error.args[0]!r}"
                missing[each.name] = reason or f"{unknown}, which the sizes of the graph's inputs do not tell"


def _modules(
    manifest: Manifest, chain: Chain, prepared: Mapping[str, Shape], rows: int
) -> Iterator[tuple[str, dict[str, Shape]]]:
    """Yield the graphs of a chain with the shapes of their inputs: a turn runs a module for some rows of a batch."""
    if chain.start is not None:
        yield chain.start, {}
    known = {**prepared, chain.takes: _state(manifest, chain, rows)}
    for graph in chain.modules.values():
        yield graph, {each.name: known[each.name] for each in manifest.graphs[graph].inputs}


def _state(manifest: Manifest, chain: Chain, rows: int) -> Shape:
    first = next(iter(chain.modules.values()))
    (spec,) = (spec for spec in manifest.graphs[first].inputs if spec.name == chain.takes)
    return (rows, *map(int, spec.shape[1:]))


def _profile(least: Mapping[str, Shape], usual: Mapping[str, Shape], most: Mapping[str, Shape]) -> Profile:
    return {name: Range(least[name], usual[name], most[name]) for name in least}


def _volume(most: tuple[Shape, ...]) -> tuple[int, tuple[Shape, ...]]:
    """Return a sort key: the number of values in a row of the largest inputs, then the sizes."""
    return sum(math.prod(shape[1:]) for shape in most), most


@dataclass(frozen=True)
class _Sizes:
    """Shapes of a tower's prepared arrays by rows and length, with widths rounded up to `length_multiple`."""

    probes: Probes
    tower: str
    length_multiple: int

    def __call__(self, rows: int, length: int) -> dict[str, Shape]:
        """Return the shapes by graph input. Rows of length 0 have one place."""
        arrays, shapes = self.probes.arrays(self.tower), {}
        for part in self.probes.towers[self.tower].parts.values():
            fills = part.fills()
            for name, fill in fills.items():
                source = fill.mask_of or name
                if not fills[source].ragged:
                    own = arrays[source].shape
                    shapes[name] = (rows, *(own[:1] if fill.mask_of else own))
                    continue
                rest = () if fill.mask_of else arrays[name].shape[1:]
                shapes[name] = (rows, self._width(part.prepare, fills[source].width, fills[source].most, length), *rest)
        return shapes

    def _width(self, prepare: Prepare, fixed: int | None, most: int | None, length: int) -> int:
        """Return the places of a row at most, with all its length in one part."""
        if fixed is not None:
            return fixed
        places = max(1, int(length * _places(prepare)))
        rounded = -(-places // self.length_multiple) * self.length_multiple if length else places
        return rounded if most is None else min(rounded, most)


def _places(prepare: Prepare) -> float:
    """Return the places along the ragged axis for one unit of length."""
    if isinstance(prepare, AudioPrepare):
        window = round(prepare.max_seconds * prepare.rate)
        return prepare.unit if prepare.hop_seconds is None else prepare.unit / window
    return prepare.unit if isinstance(prepare, TensorPrepare) else 1


_OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., int]] = {"max": max, "min": min}


def _size(axis: str, known: Mapping[str, int]) -> int:
    """Return the size of an axis: a symbol, or an expression of symbols such as `length + 1`."""
    if axis in known:
        return known[axis]
    try:
        return _value(ast.parse(axis, mode="eval").body, known)
    except (KeyError, SyntaxError, ZeroDivisionError):
        raise KeyError(axis) from None


def _value(node: ast.expr, known: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, known), _value(node.right, known))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.lower() in _FUNCTIONS:
        return _FUNCTIONS[node.func.id.lower()](*(_value(each, known) for each in node.args))
    raise KeyError(ast.unparse(node))
