"""The vectors of labels: embedded once by whoever comes first, kept, and let go."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from embedge import AsyncEmbedder, DeadlineExceeded, Embedder, InvalidInput, Overloaded, Reply, Request
from embedge.scoring import classifier as classifier_
from embedge.scoring import labels
from embedge.scoring.classifier import Classifier
from embedge.scoring.labels import LabelStore
from tests.runtime.labelled import (
    ANIMALS,
    PLAIN,
    SIGMOID,
    embedder,
    images,
    pixels,
)
from tests.tiny_towers import DIM, vector

_ = embedder


class Counted:
    """Embeds through the embedder, counts, and can be held."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.requests: list[Request] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.store = LabelStore(embedder.manifest, embedder.towers, self)

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        self.entered.set()
        assert self.gate.wait(30)
        return self.embedder.run(request)


def test_labels_are_embedded_once_by_whoever_comes_first(embedder: Embedder) -> None:
    counted = Counted(embedder)
    counted.gate.clear()
    found: list[Classifier] = []
    callers = [threading.Thread(target=lambda: found.append(counted.store.ready(PLAIN, "image"))) for _ in range(4)]
    for caller in callers:
        caller.start()
    assert counted.entered.wait(30)
    counted.gate.set()
    for caller in callers:
        caller.join(30)

    assert len(found) == 4
    assert len(counted.requests) == 1
    assert counted.requests[0].priority == "bulk"
    assert all(each.vectors is found[0].vectors for each in found)
    counted.store.ready(SIGMOID, "text")
    assert len(counted.requests) == 1, "the same labels in the same templates have the same vectors"


def test_a_deadline_ends_the_wait_and_not_the_work(embedder: Embedder) -> None:
    counted = Counted(embedder)
    counted.gate.clear()
    with pytest.raises(DeadlineExceeded, match="while the labels were embedded"):
        counted.store.ready(PLAIN, "image", deadline=0.0)
    counted.gate.set()
    counted.store.ready(PLAIN, "image")
    assert len(counted.requests) == 1


def test_who_leaves_takes_nothing_from_the_others(embedder: Embedder) -> None:
    counted = Counted(embedder)
    counted.gate.clear()
    left, stays = (counted.store.later(PLAIN, "image") for _ in range(2))
    assert left.cancel()
    counted.gate.set()
    assert stays.result(30).labels == ANIMALS


async def test_labels_that_are_ready_wait_for_no_others(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(embedder)
    counted.store.ready(["cat", "dog"], "image")
    monkeypatch.setattr(embedder, "_labels", counted.store)
    counted.gate.clear()
    model, items = AsyncEmbedder(embedder), images(1)
    waiting = [asyncio.create_task(model.classify(items, "animals")) for _ in range(64)]
    try:
        found = await asyncio.wait_for(model.classify(items, ["cat", "dog"]), 30)
    finally:
        counted.gate.set()
    assert found.labels == ("cat", "dog")
    assert {each.labels for each in await asyncio.gather(*waiting)} == {ANIMALS}


def test_only_so_many_new_label_sets_at_a_time(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_MOST_BUILDS", 1)
    counted = Counted(embedder)
    counted.gate.clear()
    with pytest.raises(DeadlineExceeded):
        counted.store.ready(["cat"], "image", deadline=0.0)
    with pytest.raises(Overloaded, match="many new label sets"):
        counted.store.ready(["dog"], "image")
    counted.gate.set()
    counted.store.ready(["cat"], "image")
    counted.store.ready(["dog"], "image")


def test_what_fails_is_tried_again(embedder: Embedder) -> None:
    store = Counted(embedder).store
    for _ in range(2):
        with pytest.raises(InvalidInput, match="cannot be embedded"):
            store.ready(["cat", ""], "image")
    assert store.ready(["cat"], "image").vectors.shape == (1, DIM)


def test_the_labels_used_longest_ago_are_let_go(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_MOST_BYTES", 2 * 2500)  # a little more than two of these take
    counted = Counted(embedder)
    for label in ("cat", "dog", "cat", "bird", "cat", "dog"):
        counted.store.ready([label], "image")
    assert [request.items[0] for request in counted.requests] == ["cat", "dog", "bird", "dog"]
    counted.store.ready(ANIMALS, "image")  # more than all may have, alone
    counted.store.ready(ANIMALS, "image")
    assert len(counted.requests) == 5


def test_the_texts_of_labels_count_as_what_is_kept(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_MOST_BYTES", 1 << 20)
    counted = Counted(embedder)
    for label in ("x" * 700_000, "y" * 700_000, "x" * 700_000):
        counted.store.ready([label], "image")
    assert len(counted.requests) == 3, "two such labels are more than may be kept"


@pytest.mark.parametrize(
    ("names", "templates", "says"),
    [
        (["c" * 100_000], ["{}" * 1000], "100,002,000 characters, the limit is 4,194,304"),
        (["cat"] * 60_000, ["{}"] * 100, "labels times templates are over 4,194,304"),
    ],
)
def test_labels_that_would_fill_the_memory_are_refused(
    embedder: Embedder, names: list[str], templates: list[str], says: str
) -> None:
    counted = Counted(embedder)
    with pytest.raises(InvalidInput, match=says):
        counted.store.ready(names, "image", templates=templates)
    assert not counted.requests


def test_many_labels_are_embedded_and_scored_in_pieces(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    items = images(7)
    whole = embedder.classify(items, "animals")
    monkeypatch.setattr(labels, "_TEXTS", 3)
    monkeypatch.setattr(classifier_, "_LOGITS", 9)
    counted = Counted(embedder)

    classifier = counted.store.ready("animals", "image")

    assert [len(request.items) for request in counted.requests] == [2, 2, 2, 2]
    rows = np.stack([vector(image=image) for image in pixels(7)])
    np.testing.assert_allclose(classifier.score(rows).values, whole.values, rtol=1e-6)
