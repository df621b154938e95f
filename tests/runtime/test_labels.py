"""Zero-shot classification against its plain definition, over real towers whose vectors are exact."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import (
    AsyncEmbedder,
    DeadlineExceeded,
    Embedder,
    InvalidInput,
    NotFound,
    Overloaded,
    Reply,
    Request,
    labels,
)
from embedge import classifier as classifier_
from embedge import manifest as m
from embedge.classifier import Classifier
from embedge.content import Image
from embedge.kinds import MultiVectorOutput
from embedge.labels import LabelStore
from embedge.outputs import Vectors
from tests.tiny_towers import DIM, SIDE, tiny_towers, vector

ANIMALS = ("cat", "dog", "bird", "fish")
TEMPLATES = ("a {}", "the small {} sleeps")
PLAIN = m.LabelSet(tower="text", output="dense", labels=ANIMALS, templates=TEMPLATES)
SIGMOID = m.LabelSet(tower="text", output="dense", labels=ANIMALS, templates=TEMPLATES, scores="sigmoid")
SCALE, BIAS = 10.0, -2.0


def pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 9, (count, SIDE, SIDE, 3)).astype(np.uint8)


def images(count: int) -> list[Image]:
    return [Image(each) for each in pixels(count)]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = tiny_towers(tmp_path_factory.mktemp("labels") / "towers")
    bundle = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    space = m.Space(id="shared", dim=DIM, scale=SCALE, bias=BIAS)
    elsewhere = m.Space(id="elsewhere", dim=DIM)
    output = msgspec.structs.replace(bundle.towers["series"].outputs["dense"], space="elsewhere")
    series = msgspec.structs.replace(bundle.towers["series"], outputs={"dense": output})
    bundle = msgspec.structs.replace(
        bundle,
        spaces={"shared": space, "elsewhere": elsewhere},
        towers={**bundle.towers, "series": series},
        label_sets={"animals": PLAIN, "any": SIGMOID},
    )
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    with Embedder.open(path) as opened:
        yield opened


def unit(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(np.float64) / math.sqrt(sum(float(number) ** 2 for number in values))


def expected(item: NDArray[np.float32], names: Sequence[str], templates: Sequence[str], scores: str) -> list[float]:
    """Return the scores of one item's vector, from the formula, a label at a time."""
    means = [np.mean([unit(vector(text=each.replace("{}", name))) for each in templates], axis=0) for name in names]
    logits = [SCALE * float(unit(item) @ unit(mean)) + BIAS for mean in means]
    if scores == "sigmoid":
        return [1 / (1 + math.exp(-logit)) for logit in logits]
    return [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]


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


# The store.


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


# The numbers.


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
