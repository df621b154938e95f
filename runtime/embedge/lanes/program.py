"""Runs batches through a model's sessions, with the steps that towers share."""

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
"""By tower: the places of its rows in the batch, and the tensors of its outputs, each (len(rows), …)."""


@dataclass(frozen=True, slots=True)
class _End:
    """Towers whose last step has started: the places of their rows in it, other values, and its pending result."""

    rows: Mapping[str, Sequence[int]]
    values: Arrays
    result: PendingArrays


class Program:
    """Runs batches of towers that share a trunk. Owns its sessions; used in a lane's thread."""

    def __init__(self, manifest: Manifest, sessions: dict[str, Session]) -> None:
        """Create a program. `sessions` has one for each graph of the towers."""
        self._manifest = manifest
        self._sessions = sessions

    def run(self, towers: Sequence[str], feeds: Arrays) -> Computed:
        """Compute a batch. A step that several towers share runs once for the rows of all.

        Args:
            towers: The tower of each row.
            feeds: Input arrays, each (rows, …).
        """
        return self.start(towers, feeds)()

    def start(self, towers: Sequence[str], feeds: Arrays) -> Callable[[], Computed]:
        """Start a batch. This thread waits for a step only if another step reads its result.

        Args:
            towers: The tower of each row.
            feeds: Input arrays, each (rows, …).

        Returns:
            A function that waits for the results. Call it once, in any thread.
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
        """Return (rows,) bool: whether all outputs of a row are finite and valid for their kinds."""
        return outputs.good(self._manifest.towers[tower].outputs.values(), tensors, rows)

    def check(self, tower: str, rows: int, tensors: Arrays) -> None:
        """Check the tensors of a tower.

        Raises:
            BundleError: A tensor does not match the manifest.
            ArithmeticError: A value is not finite.
        """
        for name, output in self._manifest.towers[tower].outputs.items():
            outputs.fits(output, tensors, rows, name=name)
            if not all(np.isfinite(tensors[tensor]).all() for tensor in output.tensors):
                raise ArithmeticError(f"self-test: output {name!r} is not finite")

    def close(self) -> None:
        """Close all sessions."""
        for session in self._sessions.values():
            session.close()

    def _follow(self, rows: Mapping[str, Sequence[int]], values: Arrays, depth: int, begun: list[_End]) -> None:
        """Start the remaining steps of these towers, and add their ends to `begun`.

        `values` belong to the rows of these towers, after the same `depth` steps.
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
        """Wait for every started step, also after an error, and return each tower's tensors. Raises the first error."""
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
        """Start the step's graph with its inputs."""
        return self._sessions[step].start({spec.name: values[spec.name] for spec in self._manifest.graphs[step].inputs})

    def _chained(self, tower: str, chain: Chain, feeds: Arrays) -> Callable[[], Arrays]:
        """Start a tower with a chain, alone in its trunk: its steps run on states, not on rows."""
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
        """Return the towers by their next step; None for those without one."""
        ways: dict[str | None, list[str]] = {}
        for tower in towers:
            steps = self._manifest.towers[tower].steps
            ways.setdefault(steps[depth] if depth < len(steps) else None, []).append(tower)
        return ways

    def _named(self, tower: str) -> set[str]:
        """Return the tensors of the tower's outputs."""
        return {tensor for output in self._manifest.towers[tower].outputs.values() for tensor in output.tensors}

    def _wanted(self, towers: Iterable[str], depth: int) -> set[str]:
        """Return the tensors for the towers' steps from `depth` on, and for their outputs."""
        wanted: set[str] = set()
        for tower in towers:
            steps = self._manifest.towers[tower].steps[depth:]
            wanted |= {spec.name for step in steps for spec in self._manifest.graphs[step].inputs} | self._named(tower)
        return wanted


def _forget(begun: Iterable[_End]) -> None:
    """Wait for started steps without using their results, so that the sessions are free for the next batch."""
    for end in begun:
        try:
            end.result()
        except Exception as error:  # the first error is reported; this batch has failed already
            log.debug("another step of a failed batch: %r", error)


def _take(values: Arrays, names: Iterable[str], rows: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """Return these rows of the arrays, without a copy for all rows."""
    return {name: values[name] if len(values[name]) == len(rows) else values[name][rows] for name in names}


def _spread(array: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
    """Return (rows, turns, …): the array's rows in the marked places, and 0 elsewhere."""
    spread = np.zeros((*there.shape, *array.shape[1:]), array.dtype)
    spread[there] = array
    return spread


def _close_up(rows: Mapping[str, Sequence[int]]) -> tuple[dict[str, Sequence[int]], list[int]]:
    """Return places of the towers' rows, one tower after another, and the former place of each row."""
    places: dict[str, Sequence[int]] = {}
    order: list[int] = []
    for tower, own in rows.items():
        places[tower] = range(len(order), len(order) + len(own))
        order.extend(own)
    return places, order
