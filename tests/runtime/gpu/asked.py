"""What the tiny models are asked, one bundle for each way in which a model can be put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from embedge import Request
from embedge.content import Image, Vector
from tests.tiny import tiny_bundle, words
from tests.tiny_chain import tiny_chain
from tests.tiny_composed import tiny_composed
from tests.tiny_fused import NUMBERS, numbers, series, tiny_fused
from tests.tiny_heads import TOWERS, tiny_heads
from tests.tiny_kinds import KINDS, tiny_kinds
from tests.tiny_towers import SIDE, tiny_towers

__all__ = ["MODELS", "Asked"]

_PIXELS = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Asked:
    """A bundle, and requests to it, some of which have items that fail."""

    make: Callable[[Path], Path]
    requests: Callable[[], list[Request]]


def _texts() -> list[Request]:
    return [Request(items=[words(count % 25 + 1, seed=seed + count) for count in range(9)]) for seed in range(8)]


def _towers() -> list[Request]:
    both = [{"text": "a cat", "image": Image(_PIXELS[0])}, {"text": words(20), "image": Image(_PIXELS[1])}]
    return [
        Request(items=["a cat", words(30), "the dog"], tower="text"),
        Request(items=[Image(each) for each in _PIXELS], tower="image"),
        Request(items=[series(length, length) for length in (1, 3, 16)], tower="series"),
        Request(items=both, tower="both"),
    ]


def _heads() -> list[Request]:
    items = [series(length, length) / np.float32(16) for length in (1, 4, 5, 16)]  # `picky` takes no larger numbers
    return [Request(items=items, tower=tower) for tower in TOWERS]


def _chain() -> list[Request]:
    parts = {"series": series(5, 1), "left": Vector(numbers(NUMBERS, seed=1)), "right": Vector(numbers(NUMBERS))}
    orders = (("series", "left", "right"), ("right", "series"), ("left",), ("right", "left", "series"))
    items = [{name: parts[name] for name in order} for order in orders]
    return [Request(items=items, outputs=outputs) for outputs in (("scores", "trail", "state"), ("state",))]


def _fused() -> list[Request]:
    left = Vector(numbers(NUMBERS))
    items = [{"series": series(3, 1), "left": left}, {"left": left}, {}, {"series": series(16, 2), "right": left}]
    return [Request(items=items), Request(items=items[::-1])]


def _kinds() -> list[Request]:
    texts = ["a red cat", "", words(25), "the dog runs"]
    table = [{"table": {"age": 3, "town": "Chur"}}, {"table": {"age": 3.5, "income": None, "town": None}}]
    vectors = [Vector(np.float32([1, 2, 3, 4])), Vector(np.float32([-1, 0, 3, 4]))]
    return [
        *(Request(items=texts, tower="text", outputs=(name,)) for name in KINDS),
        Request(items=texts[2:], tower="text", outputs=("dense",), dtype="int8"),
        Request(items=table),
        Request(items=vectors),
    ]


def _composed() -> list[Request]:
    pair = {"text": "a cat", "image": Image(_PIXELS[0])}
    return [
        Request(items=[["a cat", "a dog"], ["the sky"]], tower="mean"),
        Request(items=[[["a cat", "a dog"], ["the sky"]]], tower="shelf"),
        Request(items=[list(_PIXELS), list(_PIXELS[:2])], tower="brightest"),
        Request(items=[["a cat", "a dog"], ["the sky"]], tower="pages", outputs=("dense", "pages")),
        Request(items=[{"texts": ["a cat", "a dog"], "title": "a tree"}], tower="titled"),
        Request(items=[pair, pair], tower="match", outputs=("score",)),
    ]


MODELS: dict[str, Asked] = {
    "tiny": Asked(tiny_bundle, _texts),
    "towers": Asked(tiny_towers, _towers),
    "heads": Asked(tiny_heads, _heads),
    "chain": Asked(partial(tiny_chain, start=False), _chain),  # TensorRT takes no graph without inputs
    "fused": Asked(tiny_fused, _fused),
    "kinds": Asked(tiny_kinds, _kinds),
    "composed": Asked(tiny_composed, _composed),
}
