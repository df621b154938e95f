"""The order of an item's parts travels: a map on the wire has none, and chains go by it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import Embedder, InvalidInput, Request, RuntimeConfig
from embedge.content import Vector
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.parts import fill_item, item_from_proto
from tests.tiny_chain import MODULES, tiny_chain
from tests.tiny_fused import NUMBERS, numbers, series


def arrived(item: dict[str, Any], **change: Any) -> Any:
    message = pb.Item()
    fill_item(message, item)
    if "order" in change:
        message.ClearField("order")
        message.order.extend(change["order"])
    return item_from_proto(pb.Item.FromString(message.SerializeToString()))


def test_chains_of_any_order_are_over_the_wire_what_they_are_in_process(tmp_path: Path) -> None:
    every = {"series": series(3), "left": Vector(numbers(NUMBERS)), "right": Vector(numbers(NUMBERS, seed=1))}
    items = [{name: every[name] for name in order} for order in itertools.permutations(MODULES)]
    with Embedder.open(tiny_chain(tmp_path / "1"), config=RuntimeConfig(lanes=1, warm_up_seconds=0)) as embedder:
        mine, theirs = (
            embedder.run(Request(items=each)).outputs["scores"] for each in (items, [arrived(item) for item in items])
        )
    np.testing.assert_array_equal(mine.values, theirs.values)  # type: ignore[union-attr]
    assert len(np.unique(theirs.values, axis=0)) == len(items)  # type: ignore[union-attr]


def test_parts_without_an_order_come_by_name() -> None:
    assert list(arrived({"b": "x", "a": "y", "c": "z"}, order=())) == ["a", "b", "c"]
    assert list(arrived({"b": "x", "a": "y", "c": "z"})) == ["b", "a", "c"]


@pytest.mark.parametrize("order", [("a",), ("a", "a"), ("a", "b", "b"), ("a", "c")])
def test_a_part_that_the_order_names_twice_or_not_is_refused(order: tuple[str, ...]) -> None:
    error = arrived({"a": "x", "b": "y"}, order=order)
    assert isinstance(error, InvalidInput)
    assert "'order' does not name each of its parts once" in str(error)
