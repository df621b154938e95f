"""Zero-shot classification against its plain definition, over real towers whose vectors are exact."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest

from embedge import AsyncEmbedder, Embedder, InvalidInput, NotFound, Request
from embedge.bundle import manifest as m
from embedge.bundle.output_specs import MultiVectorOutput
from embedge.content import Image
from embedge.scoring.labels import LabelStore
from tests.runtime.labelled import (
    ANIMALS,
    PLAIN,
    TEMPLATES,
    embedder,
    expected,
    images,
    pixels,
)
from tests.tiny_towers import DIM, vector

_ = embedder


@pytest.mark.parametrize(("name", "scores"), [("animals", "softmax"), ("any", "sigmoid")])
def test_images_get_the_scores_of_labels_in_their_templates(embedder: Embedder, name: str, scores: str) -> None:
    items = images(5)

    found = embedder.classify(items, name)

    assert found.labels == ANIMALS
    assert found.values.dtype == np.float32
    for row, image in zip(found.values, pixels(5), strict=True):
        np.testing.assert_allclose(row, expected(vector(image=image), ANIMALS, TEMPLATES, scores), rtol=2e-6)


def test_texts_are_classified_by_the_same_labels(embedder: Embedder) -> None:
    found = embedder.classify(["a cat runs"], "animals", tower="text", prompt="query")
    np.testing.assert_allclose(
        found.values[0], expected(vector(text="query: a cat runs"), ANIMALS, TEMPLATES, "softmax"), rtol=2e-6
    )


def test_the_best_come_first(embedder: Embedder) -> None:
    items = images(3)
    every, best = embedder.classify(items, "animals"), embedder.classify(items, "animals", top=2)

    for row in range(3):
        assert best[row] == sorted(every[row], key=lambda pair: -pair[1])[:2]
    assert len(embedder.classify(items, "animals", top=99)[0]) == len(ANIMALS)


def test_plain_labels_are_embedded_by_the_tower_of_texts(embedder: Embedder) -> None:
    (image,) = pixels(1)
    # The space has a bias, which a softmax would not see.
    found = embedder.classify([Image(image)], ["red", "green"], templates=["the {} cat"])
    np.testing.assert_allclose(
        found.values[0], expected(vector(image=image), ("red", "green"), ["the {} cat"], "sigmoid"), rtol=2e-6
    )
    assert [label for label, _ in found[0]] == ["red", "green"]


def test_a_label_set_of_ones_own(embedder: Embedder) -> None:
    own = m.LabelSet(tower="text", output="dense", labels=("{}", "tree"), templates=("a {} {}",))
    found = embedder.classify(images(2), own)
    for row, image in zip(found.values, pixels(2), strict=True):
        np.testing.assert_allclose(row, expected(vector(image=image), own.labels, own.templates, "softmax"), rtol=2e-6)


def test_no_items_have_no_scores(embedder: Embedder) -> None:
    assert embedder.classify([], "animals", tower="image").values.shape == (0, 4)
    assert embedder.classify([], "animals", tower="image", top=3).values.shape == (0, 3)


def test_a_bad_item_is_raised_and_beside_it_the_others_have_scores(embedder: Embedder) -> None:
    good, bad = images(1)[0], Image(np.zeros((2, 2, 7), np.uint8))

    with pytest.raises(InvalidInput, match="item 1"):
        embedder.classify([good, bad], "animals")

    request = Request(items=[good, bad])
    classifier = embedder.classifier(request, "animals").result(30)
    reply = classifier.scored(embedder.run(classifier.asked(request)))
    assert set(reply.errors) == {1}
    scores = reply.outputs["scores"]
    np.testing.assert_array_equal(scores.values[0], embedder.classify([good], "animals").values[0])  # type: ignore[union-attr]
    assert not scores.values[1].any()  # type: ignore[union-attr]


def test_asyncio_gives_the_same(embedder: Embedder) -> None:
    found = asyncio.run(AsyncEmbedder(embedder).classify(images(3), ["red", "blue"], top=1))
    again = embedder.classify(images(3), ["red", "blue"], top=1)
    assert [found[row] for row in range(3)] == [again[row] for row in range(3)]


def test_the_names_of_label_sets(embedder: Embedder) -> None:
    assert embedder.labels == ("animals", "any")


# What is refused.


def own(**changes: Any) -> m.LabelSet:
    return msgspec.structs.replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("plants", {}, NotFound, "label set 'plants' is unknown; there are: animals, any"),
        (PLAIN, {"tower": "series"}, InvalidInput, "tower 'series' gives no vectors in the space of the labels"),
        (["red"], {"tower": "series"}, InvalidInput, "no tower of texts is in a space of tower 'series'"),
        (own(tower="voice"), {}, NotFound, "tower 'voice', which embeds the labels, is not loaded; loaded are: text"),
        (own(output="sparse"), {}, NotFound, "output 'sparse' is unknown; tower 'text' has: dense"),
        (own(labels=()), {}, InvalidInput, "0 labels are not possible: give 1 to 65,536"),
        (own(labels=(1,)), {}, InvalidInput, "labels and templates are texts"),
        (own(templates=()), {}, InvalidInput, "no template is given"),
        (own(templates=("a cat",)), {}, InvalidInput, "template 'a cat' has no place for the label: {}"),
        (own(scores="best"), {}, InvalidInput, "scores 'best' are unknown; choose softmax or sigmoid"),
        ([""], {}, InvalidInput, "the label text '' cannot be embedded: "),
        (["cat"], {"top": 0}, InvalidInput, "top 0 is not possible: ask for 1 label or more"),
        (["cat"], {"top": True}, InvalidInput, "top True is not possible"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    embedder: Embedder, given: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        embedder.classify([], given, **{"tower": "image", **options})


def test_labels_need_one_vector_each(embedder: Embedder) -> None:
    tokens = MultiVectorOutput(tensor="t", space="shared", dim=DIM, normalized=False)
    text = msgspec.structs.replace(embedder.towers["text"], outputs={"tokens": tokens})
    store = LabelStore(embedder.manifest, {**embedder.towers, "text": text}, embedder.run)
    with pytest.raises(InvalidInput, match="labels need an output of one vector an item, which 'tokens' is not"):
        store.ready(own(output="tokens"), "image")
