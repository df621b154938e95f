"""How each tower of engines/recipes/zoo is used with nothing but PyTorch: one item, no batch, no padding."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from embedge.content import Image
from embedge_export.recipe import TowerRecipe
from tests.structure.code import ROOT

__all__ = ["COMPOSED", "PLAIN", "ZOO", "made", "module", "plain"]

ZOO = ROOT / "engines" / "recipes" / "zoo"

Array = NDArray[Any]
Parts = Mapping[str, Any]


COMPOSED = ("bags.mean", "bags.patch", "bags.slide", "modules.patient", "subsets.clip")
"""Towers that `test_zoo_composed` holds against PyTorch: their items are no single call of one module."""


class _After(nn.Module):
    """Steps in order: the first takes what `inputs` names, the last also what else there is."""

    def __init__(self, first: nn.Module, last: nn.Module, *inputs: str) -> None:
        super().__init__()
        self.first, self.last, self.inputs = first, last, inputs

    def forward(self, **arrays: torch.Tensor) -> Any:
        found = self.first(**{name: arrays.pop(name) for name in self.inputs})
        return self.last(*(found if isinstance(found, tuple) else (found,)), **arrays)


_STEPS = {
    ("image_front", "projection"): ("oneencoder:ImageFront", "oneencoder:Projection", "pixels"),
    ("text_front", "projection"): ("oneencoder:TextFront", "oneencoder:Projection", "ids"),
    ("query", "pool"): ("xpool:TextQuery", "xpool:XPool", "ids"),
}


def module(tower: TowerRecipe) -> nn.Module:
    """Return the module that a tower's recipe names, or that its steps are."""
    if tower.steps:
        first, last, *inputs = _STEPS[tower.steps]  # type: ignore[index]
        return _After(made(first), made(last), *inputs)
    return made(tower.module or "", **tower.arguments)


@cache
def made(place: str, **arguments: Any) -> nn.Module:
    """Return the zoo's module of this name, as a build makes it."""
    file, factory = place.split(":")
    torch.manual_seed(0)  # as a build does
    module: nn.Module = getattr(importlib.import_module(f"engines.recipes.zoo.{file}"), factory)(**arguments)
    return module.eval()


def plain(name: str, module: nn.Module, item: Parts) -> list[Array]:
    """Return what a module gives for an item of the tower `name`."""
    arguments = {key: torch.from_numpy(np.array(array))[None] for key, array in PLAIN[name](item).items()}
    with torch.no_grad():
        found = module(**arguments)
    return [each[0].numpy() for each in (found if isinstance(found, tuple) else (found,))]


def _tokens(item: Parts) -> dict[str, Array]:
    tokenizer = Tokenizer.from_file(str(ZOO / "bytes.json"))
    tokenizer.enable_truncation(64)
    return {"ids": np.array(tokenizer.encode(item["text"]).ids)}


def _gaps(array: Array) -> dict[str, Array]:
    return {"values": np.nan_to_num(array), "observed": ~np.isnan(array)}


def _picture(item: Parts) -> dict[str, Array]:
    image = item["image"]
    assert isinstance(image, Image)
    assert image.data.shape == (32, 32, 3)  # how images are scaled is not the question here
    return {"pixels": image.data.transpose(2, 0, 1)}


def _finding(item: Parts) -> dict[str, Array]:
    cells = [item["record"].get(name) for name in ("age", "weight", "pressure")]
    numbers = np.array([cell or 0 for cell in cells], np.float32)
    return {**_picture(item), "numbers": numbers, "observed": np.array([cell is not None for cell in cells])}


def _record(item: Parts) -> dict[str, Array]:
    age, albumin, sodium, sex, ward = map(item["patient"].get, ("age", "albumin", "sodium", "sex", "ward"))
    return {
        "numbers": np.array([age, albumin or 0, sodium or 0], np.float32),
        "codes": np.array([2 if sex is None else "fm".index(sex), "abcde".index(ward)]),
        "observed": np.array([cell is not None for cell in (age, albumin, sodium, sex, ward)]),
    }


# The arguments of each tower's module, from the contents of an item by part.
PLAIN: dict[str, Callable[[Parts], dict[str, Array]]] = {
    "bands.bands": lambda item: {"bands": item["bands"]},
    "concepts.image": _picture,
    "curves.curve": dict,
    "events.events": dict,
    "findings.finding": _finding,
    "gaussians.image": _picture,
    "gaussians.text": _tokens,
    "hashes.image": lambda item: {"features": item["image"].values},
    "hashes.text": lambda item: {"features": item["text"].values},
    "lexical.text": _tokens,
    "monitors.signal": lambda item: _gaps(item["signal"]),
    "oneencoder.image": _picture,
    "oneencoder.text": _tokens,
    "patients.patient": _record,
    "places.climate": lambda item: _gaps(item["climate"]),
    "places.place": lambda item: {"degrees": np.array([item["place"]["lat"], item["place"]["lon"]], np.float32)},
    "points.points": lambda item: {"points": item["cloud"]},
    "points.text": _tokens,
    "series.series": lambda item: {**_gaps(item["values"]), "hours": item["hours"]},
    "splits.sound": lambda item: {"spectra": item["spectra"]},
    "xpool.match": lambda item: {**_tokens(item), "frames": item["frames"]},
}
