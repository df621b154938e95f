"""The program: a model's sessions, and the way that the rows of each tower take through them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge import outputs
from embedge.backends import Arrays, PendingArrays, Session
from embedge.bundle.manifest import Chain, Manifest
from embedge.lanes.chain import pass_on

__all__ = ["Computed", "Program"]

log = logging.getLogger("embedge.lanes.program")

Computed = Mapping[str, tuple[Sequence[int], Arrays]]
"""By tower: the places of its rows in the batch, and the tensors that its outputs name, each (len(rows), …)."""


@dataclass(frozen=True, slots=True)
class _End:
    """Towers whose last step has begun: the places of their rows in it, what else they name, and its result."""

    rows: Mapping[str, Sequence[int]]
    values: Arrays
    result: PendingArrays


class Program:
    """Runs batches of towers that share a trunk. Used in a lane's thread, like the sessions that it owns."""

    def __init__(self, manifest: Manifest, sessions: dict[str, Session]) -> None:
        """`sessions`: one for each graph that a tower's steps name."""
        self._manifest = manifest
        self._sessions = sessions

    def run(self, towers: Sequence[str], feeds: Arrays) -> Computed:
        """Return what the towers make of a batch. Steps that towers have in common run once for the rows of all.

        towers: of each row. feeds: prepared arrays, each (rows, …).
        """
        return self.start(towers, feeds)()

    def start(self, towers: Sequence[str], feeds: Arrays) -> Callable[[], Computed]:
        """Begin a batch, as `run`; what is returned waits for it, is called once, in any thread.

        The result of a step is waited for here only where another step reads it: the last of each tower stay pending.
        """
        first, own = towers[0], dict.fromkeys(towers)
        if (chain := self._manifest.towers[first].chain) is not None:
            finish = self._chained(first, chain, feeds)
            return lambda: {first: (range(len(towers)), finish())}
        rows: dict[str, Sequence[int]] = {first: range(len(towers))}
        if len(own) > 1:
            rows = {tower: [row for row, each in enumerate(towers) if each == tower] for tower in own}
        begun: list[_End] = []
        try:
            self._follow(rows, feeds, 0, begun)
        except BaseException:
            _forget(begun)
            raise
        return lambda: self._finish(rows, begun)

    def good(self, tower: str, rows: int, tensors: Arrays) -> NDArray[np.bool_]:
        """Return (rows,) bool: whether all outputs of a row are finite, and what else their kinds ask for."""
        return outputs.good(self._manifest.towers[tower].outputs.values(), tensors, rows)

    def check(self, tower: str, rows: int, tensors: Arrays) -> None:
        """Raise unless the tensors are what the manifest says, and finite. Raises BundleError, ArithmeticError."""
        for name, output in self._manifest.towers[tower].outputs.items():
            outputs.fits(output, tensors, rows, name=name)
            if not all(np.isfinite(tensors[tensor]).all() for tensor in output.tensors):
                raise ArithmeticError(f"self-test: output {name!r} is not finite")

    def close(self) -> None:
        """Close all sessions."""
        for session in self._sessions.values():
            session.close()

    def _follow(self, rows: Mapping[str, Sequence[int]], values: Arrays, depth: int, begun: list[_End]) -> None:
        """Begin what is left of these towers' steps and add their ends to `begun`.

        `values`, of the rows of these towers, come from the same steps, `depth` many.
        """
        for step, group in self._ways(rows, depth).items():
            own, mine = {tower: rows[tower] for tower in group}, dict(values)
            if step is None:
                begun.append(_End(own, mine, dict))
                continue
            if len(group) < len(rows):
                own, order = _close_up(own)
                mine = _take(values, self._wanted(group, depth) & values.keys(), order)
            result = self._begin(step, mine)
            if all(len(self._manifest.towers[tower].steps) == depth + 1 for tower in group):
                begun.append(_End(own, mine, result))
            else:
                self._follow(own, {**mine, **result()}, depth + 1, begun)

    def _finish(self, rows: Mapping[str, Sequence[int]], begun: Sequence[_End]) -> Computed:
        """Wait for all that began, also where something failed; return each tower's tensors. Raises the first error."""
        computed: dict[str, tuple[Sequence[int], Arrays]] = {}
        for place, end in enumerate(begun):
            try:
                values = {**end.values, **end.result()}
            except BaseException:
                _forget(begun[place + 1 :])
                raise
            for tower, own in end.rows.items():
                computed[tower] = rows[tower], _take(values, self._named(tower), own)
        return computed

    def _begin(self, step: str, values: Arrays) -> PendingArrays:
        """Start the step's graph with what it reads of the values."""
        return self._sessions[step].start({spec.name: values[spec.name] for spec in self._manifest.graphs[step].inputs})

    def _chained(self, tower: str, chain: Chain, feeds: Arrays) -> Callable[[], Arrays]:
        """Begin a tower with a chain, which shares no trunk: its steps run on states, not on rows."""
        states, there = pass_on(chain, self._manifest, self._sessions, feeds)
        last = np.arange(there.shape[1]) == there.sum(axis=1, keepdims=True) - 1
        chosen = there if chain.trail else last
        values: dict[str, NDArray[Any]] = {chain.takes: states[chosen]}
        result: PendingArrays = dict
        for step in self._manifest.towers[tower].steps:
            values.update(result())
            result = self._begin(step, values)

        def finish() -> Arrays:
            values.update(result())
            trail = {name: _spread(values[made], there) for name, made in chain.trail.items()}
            return {name: array[last[chosen]] for name, array in values.items()} | trail | {chain.keep: there}

        return finish

    def _ways(self, towers: Iterable[str], depth: int) -> dict[str | None, list[str]]:
        """Return the towers by their next step; None has those that are at their end."""
        ways: dict[str | None, list[str]] = {}
        for tower in towers:
            steps = self._manifest.towers[tower].steps
            ways.setdefault(steps[depth] if depth < len(steps) else None, []).append(tower)
        return ways

    def _named(self, tower: str) -> set[str]:
        """Return the tensors that the tower's outputs are read from."""
        return {tensor for output in self._manifest.towers[tower].outputs.values() for tensor in output.tensors}

    def _wanted(self, towers: Iterable[str], depth: int) -> set[str]:
        """Return the tensors that the towers' steps from `depth` on read, or their outputs."""
        wanted: set[str] = set()
        for tower in towers:
            steps = self._manifest.towers[tower].steps[depth:]
            wanted |= {spec.name for step in steps for spec in self._manifest.graphs[step].inputs} | self._named(tower)
        return wanted


def _forget(begun: Iterable[_End]) -> None:
    """Wait for what began and is wanted no more, so that the sessions are free for the next batch."""
    for end in begun:
        try:
            end.result()
        except Exception as error:  # the first failure is told; this batch has failed already
            log.debug("another step of a batch that failed: %r", error)


def _take(values: Arrays, names: Iterable[str], rows: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """Return these rows of the arrays; without a copy where they are all, in their order as they always are."""
    return {name: values[name] if len(values[name]) == len(rows) else values[name][rows] for name in names}


def _spread(array: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
    """Return (rows, turns, …) with the array's rows where something is there, and 0 elsewhere."""
    spread = np.zeros((*there.shape, *array.shape[1:]), array.dtype)
    spread[there] = array
    return spread


def _close_up(rows: Mapping[str, Sequence[int]]) -> tuple[dict[str, Sequence[int]], list[int]]:
    """Return the towers' rows one tower after another, as places by tower, and where each of them was."""
    places: dict[str, Sequence[int]] = {}
    order: list[int] = []
    for tower, own in rows.items():
        places[tower] = range(len(order), len(order) + len(own))
        order.extend(own)
    return places, order
