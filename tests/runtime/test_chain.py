"""Chains: modules in the order that an item gives, of any subset, are as if the graphs were run by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge import BundleError, Embedder, InvalidInput, NotFound, Request, RuntimeConfig
from embedge.bundle import manifest as m
from embedge.content import Vector
from tests.tiny_chain import LABELS, MODULES, chained, tiny_chain
from tests.tiny_fused import NUMBERS, numbers, series

QUICK: dict[str, Any] = {"lanes": 1, "warm_up_seconds": 0}
ORDERS = [order for count in (1, 2, 3) for order in itertools.permutations(MODULES, count)]
OUTPUTS = ("scores", "trail", "state")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chain(tmp_path_factory.mktemp("chain") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Embedder]:
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as opened:
        yield opened


def parts(order: tuple[str, ...], seed: int = 0) -> dict[str, Any]:
    return {
        name: series(1 + seed % 16, seed) if name == "series" else numbers(NUMBERS, seed=seed + len(name))
        for name in order
    }


def item(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array if name == "series" else Vector(array) for name, array in arrays.items()}


def same(model: Embedder, drawn: list[tuple[tuple[str, ...], int]], *, start: bool = True) -> None:
    given_parts = [parts(*each) for each in drawn]
    reply = model.run(Request(items=[item(each) for each in given_parts], outputs=OUTPUTS))
    assert not reply.errors
    trail: Any = reply.outputs["trail"]
    for row, each in enumerate(given_parts):
        state, scores = chained(each, start=start)
        np.testing.assert_array_equal(reply.outputs["state"].values[row], state)  # type: ignore[union-attr]
        np.testing.assert_array_equal(reply.outputs["scores"].values[row], scores[-1])  # type: ignore[union-attr]
        np.testing.assert_array_equal(trail[row], scores)


def test_every_order_of_every_subset_in_one_batch_is_as_the_graphs_by_hand(model: Embedder) -> None:
    assert len(ORDERS) == 15
    same(model, [(order, seed) for seed, order in enumerate(ORDERS)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ORDERS), st.integers(0, 99)), min_size=1, max_size=12))
def test_an_item_does_not_depend_on_the_orders_beside_it(
    model: Embedder, drawn: list[tuple[tuple[str, ...], int]]
) -> None:
    same(model, drawn)


def test_a_chain_without_a_start_begins_with_zeros(tmp_path: Path) -> None:
    with Embedder.open(tiny_chain(tmp_path / "1", start=False), config=RuntimeConfig(**QUICK)) as embedder:
        same(embedder, [(order, seed) for seed, order in enumerate(ORDERS)], start=False)


def test_the_order_counts(model: Embedder) -> None:
    one, other = (item(parts(order)) for order in (("left", "right"), ("right", "left")))

    scores: Any = model.embed([one, other])

    assert scores.labels == LABELS
    assert (scores.values[0] != scores.values[1]).any()


def test_an_item_with_an_unknown_module_or_none_fails_alone(model: Embedder) -> None:
    good = item(parts(("left",)))

    reply = model.run(Request(items=[good, {"sound": b""}, {}, {**good, "sound": b""}], tower="chain"))

    assert {index: type(error) for index, error in reply.errors.items()} == {1: NotFound, 2: InvalidInput, 3: NotFound}
    assert "part 'sound' is unknown; this tower takes: series, left, right" in str(reply.errors[1])
    np.testing.assert_array_equal(reply.outputs["scores"].values[0], chained(parts(("left",)))[1][-1])  # type: ignore[union-attr]


def chain(manifest: Any) -> Any:
    return manifest["towers"]["chain"]["chain"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: chain(c)["modules"].pop("left"), "does not have one module for each of its parts"),
        (lambda c: chain(c)["modules"].update(left="none"), "the chain of tower 'chain' names 'none'"),
        (lambda c: chain(c)["modules"].update(left="right"), "the module 'right' of tower 'chain' .* differ in 'left'"),
        (lambda c: chain(c).update(start="none"), "the chain of tower 'chain' names 'none'"),
        (lambda c: chain(c).update(start="left"), "starts with a graph that has inputs"),
        (lambda c: chain(c).update(gives="other"), "the graph 'series' of tower 'chain' names 'other'"),
        (lambda c: chain(c).update(takes="other"), "the module 'series' .* differ in 'other'"),
        (lambda c: chain(c).update(trail={"each": "none"}), "the trail of tower 'chain' names 'none'"),
        (lambda c: chain(c).update(order="mask"), "has the name of a graph's input, 'mask'"),
        (
            lambda c: c["graphs"]["left"]["inputs"][1].update(shape=["batch", 4]),
            "do not take a state of one fixed size",
        ),
        (lambda c: c["graphs"]["left"]["inputs"][1].update(shape=["batch", "n"]), "do not take a state of one fixed"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(path: Path, change: Any, message: str) -> None:
    manifest = msgspec.json.decode((path / m.FILE_NAME).read_bytes())
    change(manifest)
    with pytest.raises(BundleError, match=message):
        m.decode(msgspec.json.encode(manifest), where="here")
