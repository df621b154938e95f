"""The towers of engines/zoo with their parts and outputs, and how each is used with nothing but PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedge import prepare as p
from embedge.content import Image
from embedge.kinds import CodesOutput, DenseOutput, GaussianOutput, Output, ScoresOutput, SparseOutput
from embedge.manifest import Part
from embedge_export.sources.base import Item, Model, SpaceSource, TowerSource
from embedge_export.sources.torch_graph import TorchGraph
from embedge_export.sources.weights import tensor_hash
from engines.zoo import (
    bands,
    concepts,
    curves,
    events,
    gaussians,
    hashes,
    lexical,
    monitors,
    patients,
    places,
    points,
    series,
    splits,
    words,
)
from tests.tiny import VOCABULARY, tiny_tokenizer
from tests.tiny import words as text_of

__all__ = ["ZOO", "Stand", "model"]

Array = NDArray[Any]
COLUMNS = (
    p.Column(name="age", minimum=0, maximum=120),
    p.Column(name="albumin", missing=True),
    p.Column(name="sodium", missing=True),
    p.Column(name="sex", categories=("f", "m"), missing=True),
    p.Column(name="ward", categories=("a", "b", "c", "d", "e")),
)
TEXT = p.TextPrepare(tokenizer="tokenizer.json", max_length=24, inputs={"ids": "ids", "mask": "mask"})
PIXELS = p.ImagePrepare(
    inputs={"pixels": "pixels"}, height=32, width=32, steps=(p.Resize(height=32, width=32, fit="exact"),)
)


@dataclass(frozen=True)
class Stand:
    """A tower as a recipe would describe it. plain: the arguments of the module for one item, without a batch."""

    make: Callable[[], nn.Module]
    parts: Mapping[str, p.Prepare]
    outputs: Mapping[str, Output]
    plain: Callable[[Any], dict[str, Array]]
    samples: Callable[[int], Sequence[Item]] | None = None

    def original(self, item: Any) -> dict[str, Array]:
        """Call the module as its author would, on one item alone and unpadded; results as a source gives them."""
        with torch.no_grad():
            found = self.module()(**{name: torch.from_numpy(np.array(a))[None] for name, a in self.plain(item).items()})
        tensors = [each[0].numpy() for each in (found if isinstance(found, tuple) else (found,))]
        made = dict(zip(self.tensors, tensors, strict=True))
        return {name: _result(output, made) for name, output in self.outputs.items()}

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of what the module gives, in order."""
        return tuple(dict.fromkeys(tensor for output in self.outputs.values() for tensor in output.tensors))

    def module(self) -> nn.Module:
        return _made(self.make)


@cache
def _made(make: Callable[[], nn.Module]) -> nn.Module:
    return make()


def _result(output: Output, tensors: Mapping[str, Array]) -> Array:
    found = [tensors[name] for name in output.tensors]
    if isinstance(output, GaussianOutput):
        return np.stack(found)
    return (found[0] > 0).astype(np.uint8) if isinstance(output, CodesOutput) else found[0]


def tensor(name: str, *shape: int | str, **options: Any) -> p.TensorPrepare:
    inputs = {"values": name, **{role: role for role in ("mask", "observed") if options.pop(role, False)}}
    return p.TensorPrepare(inputs=inputs, shape=shape, **options)


def dense(tensor: str = "vector", space: str = "space", dim: int = 32, normalized: bool = True) -> DenseOutput:
    return DenseOutput(tensor=tensor, space=space, dim=dim, normalized=normalized)


def gaps(name: str) -> Callable[[Array], dict[str, Array]]:
    """Return how an array with NaN is given to a module that asks for what was observed."""
    return lambda array: {name: np.nan_to_num(array), "observed": ~np.isnan(array)}


def tokens(text: str) -> dict[str, Array]:
    return {"ids": np.array(tiny_tokenizer().encode(text).ids)}


def texts(count: int) -> list[str]:
    return [text_of(1 + place % 9, seed=place) for place in range(count)]


def pictures(count: int) -> list[Image]:
    """Return images that need no resizing: what Pillow does is not the question here."""
    draws = map(np.random.default_rng, range(count))
    return [Image(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for draw in draws]


def chart(image: Image) -> dict[str, Array]:
    return {"pixels": np.asarray(image.data).transpose(2, 0, 1)}


def record(row: Mapping[str, Any]) -> dict[str, Array]:
    cells = [row.get(column.name) for column in COLUMNS]
    return {
        "numbers": np.array([cell or 0 for cell in cells[:3]], np.float32),
        "codes": np.array([{"f": 0, "m": 1, None: 2}[cells[3]], "abcde".index(cells[4])]),
        "observed": np.array([cell is not None for cell in cells]),
    }


ROW = p.TablePrepare(inputs={"numbers": "numbers", "categories": "codes", "observed": "observed"}, columns=COLUMNS)
PLACE = p.TablePrepare(
    inputs={"numbers": "degrees"},
    columns=(p.Column(name="lat", minimum=-90, maximum=90), p.Column(name="lon", minimum=-180, maximum=180)),
)
GAUSS = {"embedding": GaussianOutput(mean="mean", log_variance="log_variance", space="space", dim=16)}
ONE = {"embedding": dense()}
BITS = {"code": CodesOutput(tensor="bits", space="space", dim=64)}


def named(array: str) -> Callable[[Array], dict[str, Array]]:
    return lambda content: {array: content}


ZOO = {
    "points": Stand(points.points, {"cloud": tensor("points", "points", 3, mask=True)}, ONE, named("points")),
    "words": Stand(lambda: words.words(len(VOCABULARY)), {"text": TEXT}, ONE, tokens, texts),
    "place": Stand(
        places.place,
        {"place": PLACE},
        ONE,
        lambda row: {"degrees": np.array([row["lat"], row["lon"]], np.float32)},
    ),
    "climate": Stand(
        places.climate, {"climate": tensor("values", 20, missing="mask", observed=True)}, ONE, gaps("values")
    ),
    "patients": Stand(patients.patients, {"patient": ROW}, ONE, record),
    "series": Stand(
        series.series,
        {
            "values": tensor("values", "time", 4, missing="mask", mask=True, observed=True),
            "hours": tensor("hours", "time", minimum=0, maximum=48),
        },
        ONE,
        lambda item: {**gaps("values")(item["values"]), "hours": item["hours"]},
    ),
    "bands": Stand(bands.bands, {"bands": tensor("bands", 10, 32, 32, minimum=0, maximum=1)}, ONE, named("bands")),
    "events": Stand(
        events.events,
        {
            "events": tensor("events", "events", dtype="int64", minimum=0, maximum=99, mask=True),
            "days": tensor("days", "events", minimum=0),
        },
        ONE,
        dict,
    ),
    "image hash": Stand(
        hashes.image_hash,
        {"image": p.VectorPrepare(inputs={"values": "features"}, dim=48)},
        BITS,
        lambda vector: {"features": vector.values},
    ),
    "image gaussian": Stand(gaussians.image_gaussian, {"image": PIXELS}, GAUSS, chart, pictures),
    "text gaussian": Stand(lambda: gaussians.text_gaussian(len(VOCABULARY)), {"text": TEXT}, GAUSS, tokens, texts),
    "splits": Stand(
        splits.splits,
        {"spectra": tensor("spectra", "frames", 16, mask=True)},
        {
            "shared": dense("shared"),
            "specific": dense("specific", "own", 16, normalized=False),
            "translated": dense("translated", "other"),
        },
        named("spectra"),
    ),
    "curves": Stand(
        curves.curves,
        {"seen": tensor("seen", "seen", 2, mask=True), "asked": tensor("asked", 8)},
        {"values": GaussianOutput(mean="mean", log_variance="log_variance", space="space", dim=8)},
        dict,
    ),
    "lexical": Stand(
        lambda: lexical.lexical(len(VOCABULARY)),
        {"text": TEXT},
        {"weights": SparseOutput(tensor="weights", space="space", dim=len(VOCABULARY))},
        tokens,
        texts,
    ),
    "concepts": Stand(
        concepts.concepts,
        {"image": PIXELS},
        {"concepts": SparseOutput(tensor="weights", space="concepts", dim=64), "embedding": dense()},
        chart,
        pictures,
    ),
    "monitors": Stand(
        monitors.monitors,
        {"signal": tensor("values", 64, 3, missing="mask", observed=True)},
        {
            "embedding": dense(normalized=False),
            "rhythm": ScoresOutput(tensor="scores", labels=("normal", "fast", "slow", "noise")),
        },
        gaps("values"),
    ),
}


def model(stand: Stand) -> Model:
    """Return what a source gives for a model of this one tower."""
    module = stand.module()
    weights = tensor_hash({name: value.numpy() for name, value in module.state_dict().items()})
    spaces = {
        output.space: SpaceSource(definition={"weights": weights, "output": name}, dim=output.dim)
        for name, output in stand.outputs.items()
        if not isinstance(output, ScoresOutput)
    }
    tower = TowerSource(
        parts={name: Part(prepare=prepare) for name, prepare in stand.parts.items()},
        graph=TorchGraph(module, stand.tensors),
        outputs=stand.outputs,
        original=stand.original,
        samples=stand.samples,
    )
    files = {"tokenizer.json": tiny_tokenizer().to_str().encode()}
    needed = any(isinstance(prepare, p.TextPrepare) for prepare in stand.parts.values())
    return Model(kind="module", towers={"tower": tower}, spaces=spaces, files=files if needed else {})
