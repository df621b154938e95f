"""A model that scores labels, over real towers whose vectors are exact, and what it has to give by the formula."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Embedder
from embedge.bundle import manifest as m
from embedge.content import Image
from tests.tiny_towers import DIM, SIDE, tiny_towers, vector

__all__ = [
    "ANIMALS",
    "BIAS",
    "PLAIN",
    "SCALE",
    "SIGMOID",
    "TEMPLATES",
    "embedder",
    "expected",
    "images",
    "pixels",
    "unit",
]

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
