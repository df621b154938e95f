"""The numbers of a classifier: finite and exact at both ends, and the sums of many labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import InvalidInput, Reply
from embedge.bundle import manifest as m
from embedge.outputs import Vectors
from embedge.scoring.classifier import Classifier


def scored(scores: Any, cosines: Sequence[float], *, scale: float, bias: float = 0.0) -> NDArray[np.float64]:
    """Return the scores of an item with these cosines to its labels."""
    vectors = np.array([[c, math.sqrt(1 - c * c)] for c in cosines])
    space = m.Space(id="s", dim=2, scale=scale, bias=bias)
    classifier = Classifier(tuple(map(str, cosines)), vectors, space, scores, "image", "dense")
    return classifier.score(np.array([[3.0, 0.0]], np.float32)).values[0].astype(np.float64)


def test_a_softmax_of_large_logits_is_finite() -> None:
    found = scored("softmax", [1.0, 0.5, -1.0], scale=10_000)
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_a_sigmoid_is_exact_where_it_is_tiny_and_finite_where_it_is_not() -> None:
    found = scored("sigmoid", [1.0, 0.0, -1.0], scale=50, bias=-20)
    assert found == pytest.approx(
        [1 / (1 + math.exp(-30)), math.exp(-20) / (1 + math.exp(-20)), math.exp(-70)], rel=1e-6
    )
    assert scored("sigmoid", [1.0, -1.0], scale=1e6).tolist() == [1.0, 0.0]


def test_twenty_thousand_labels_sum_to_one() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(20_000, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = m.Space(id="s", dim=8, scale=100)
    classifier = Classifier(tuple(map(str, range(20_000))), vectors, space, "softmax", "image", "dense")
    rows = random.normal(size=(60, 8)).astype(np.float32)

    values = classifier.score(rows).values

    np.testing.assert_allclose(values.sum(axis=1, dtype=np.float64), 1, rtol=1e-6)
    logits = (
        100 * (rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)) @ vectors.T
    )
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(values, powers / powers.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-30)


def test_rows_that_failed_are_zero() -> None:
    classifier = Classifier(("a", "b"), np.eye(2), m.Space(id="s", dim=2), "softmax", "image", "dense")
    reply = Reply(
        model="m",
        version="1",
        tower="image",
        outputs={"dense": Vectors(np.array([[1, 0], [0, 0]], np.float32), "s")},
        errors={1: InvalidInput("bad", index=1)},
        tokens=np.ones(2, np.int32),
    )
    assert classifier.scored(reply).outputs["scores"].values[1].tolist() == [0, 0]  # type: ignore[union-attr]
