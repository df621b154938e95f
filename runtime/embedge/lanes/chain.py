"""Runs chains: modules pass a state on, for each row in the order of its item's parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.backends import Arrays, Session
from embedge.bundle.manifest import Chain, Manifest

__all__ = ["pass_on"]

State = NDArray[Any]


def pass_on(
    chain: Chain, manifest: Manifest, sessions: Mapping[str, Session], feeds: Arrays
) -> tuple[State, NDArray[np.bool_]]:
    """Run a chain. In each turn, every module runs once, for all rows whose turn it is.

    Args:
        chain: The chain.
        manifest: The model's manifest.
        sessions: By graph.
        feeds: Input arrays of the batch, each (rows, …).

    Returns:
        The states after each turn, (rows, turns, …), and whether a row had a module in a turn, (rows, turns) bool.
    """
    order = cast("NDArray[np.int64]", feeds[chain.order])
    state = _start(chain, manifest, sessions, len(order))
    turns = max(1, int((order >= 0).sum(axis=1).max()))
    states = np.zeros((len(order), turns, *state.shape[1:]), state.dtype)
    for turn in range(turns):
        for number, graph in enumerate(chain.modules.values()):
            rows = np.flatnonzero(order[:, turn] == number)
            if rows.size:
                values = {**feeds, chain.takes: state}
                inputs = {spec.name: values[spec.name][rows] for spec in manifest.graphs[graph].inputs}
                state[rows] = sessions[graph].start(inputs)()[chain.gives]
        states[:, turn] = state
    return states, order[:, :turns] >= 0


def _start(chain: Chain, manifest: Manifest, sessions: Mapping[str, Session], rows: int) -> State:
    """Return the first state of each row, (rows, …)."""
    if chain.start is not None:
        return np.repeat(sessions[chain.start].start({})()[chain.gives], rows, axis=0)
    first = next(iter(chain.modules.values()))
    (spec,) = (spec for spec in manifest.graphs[first].inputs if spec.name == chain.takes)
    return np.zeros((rows, *map(int, spec.shape[1:])), spec.dtype)
