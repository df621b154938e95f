"""Find images for a text with two towers, with a fused model, and with one after the other: how much each costs.

    python -m benchmarks.peers.dual [--images 1000] [--keep 100] [--rounds 5]

One BLIP of random weights is all three: its towers share a space, and its match head reads a text while it looks at an
image. The towers' vectors of the images are made beforehand, as an index has them; the fused model has nothing to keep.
Every way is asked in process, with the same text in a round, in an order drawn by lot. Ratios are taken within a round,
by the clock and of the process's CPU time, which tells more where the machine is shared.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from embedge import Embedder
from embedge.content import Image
from embedge_bench.stats import geometric, spread
from embedge_export.build import build
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from tests.export.models import TEXTS, tokenizer

# A small model as people train them; 64 patches an image.
SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "image_size": 64,
    "patch_size": 8,
}
PASSAGES = Gate(items=12, golden=12, known_tokens=0.7)  # the vocabulary is small


def blip(folder: Path) -> Path:
    """Build the bundle of a random BLIP, and return it."""
    with quiet():
        torch.manual_seed(0)
        reads = tokenizer(model_input_names=["input_ids", "attention_mask"])
        marks = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        words = {**SIZES, **marks, "vocab_size": len(reads), "max_position_embeddings": 48, "encoder_hidden_size": 192}
        config = transformers.BlipConfig(text_config=words, vision_config=SIZES, image_text_hidden_size=128)
        transformers.BlipForImageTextRetrieval(config).eval().save_pretrained(folder / "model")
        sees = transformers.BlipImageProcessor(size={"height": 64, "width": 64})
        transformers.BlipProcessor(sees, reads).save_pretrained(folder / "model")
    return build(Recipe(name="blip", source=str(folder / "model"), gate=PASSAGES), folder)[0]


class Search:
    """Images, and three ways to find the best of them for a text: each returns their places, best first."""

    def __init__(self, embedder: Embedder, images: list[Image], keep: int) -> None:
        self.embedder, self.images, self.keep = embedder, images, keep
        self.stored = np.asarray(embedder.embed(images, tower="image"))

    def dual(self, text: str) -> NDArray[np.int64]:
        """Embed the text, and compare it with the stored vectors."""
        near = self.stored @ np.asarray(self.embedder.embed([text], tower="text"))[0]
        return np.argsort(-near, kind="stable")

    def fused(self, text: str) -> NDArray[np.int64]:
        """Score the text with every image."""
        return self._ranked(text, np.arange(len(self.images)))

    def both(self, text: str) -> NDArray[np.int64]:
        """Score the text with those images that two towers found."""
        return self._ranked(text, self.dual(text)[: self.keep])

    def _ranked(self, text: str, places: NDArray[np.int64]) -> NDArray[np.int64]:
        scores = self.embedder.score(text, [self.images[place] for place in places], tower="match")
        return places[np.argsort(-np.asarray(scores), kind="stable")]


def seconds(search: Callable[[str], object], text: str, times: int) -> NDArray[np.float64]:
    """Return what one query takes, of so many one after the other: by the clock, and of CPU in all threads."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(times):
        search(text)
    return (np.array([time.perf_counter(), time.process_time()]) - start) / times


def main() -> None:
    """Measure the three, and print what a query takes and how often that is the towers'."""
    options = argparse.ArgumentParser()
    for name, default in (("images", 1000), ("keep", 100), ("rounds", 5)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (given.images, 64, 64, 3), np.uint8)
    lots = random.Random(0)
    with TemporaryDirectory() as folder, Embedder.open(blip(Path(folder))) as embedder:
        search = Search(embedder, [Image(each) for each in pixels], given.keep)
        # A query of the towers is over in milliseconds: twenty tell more than one.
        ways = {
            "dual": (search.dual, 20),
            f"dual, then fused ({given.keep})": (search.both, 1),
            "fused": (search.fused, 1),
        }
        took: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ways}
        for text in TEXTS[-given.rounds :]:
            for name in lots.sample(list(ways), len(ways)):
                way, times = ways[name]
                took[name].append(seconds(way, text, times))
    print(
        f"{given.images:,} images; ms a query, and its ratio to dual ({spread(given.rounds)}), by the clock and of CPU"
    )
    for name, measured in took.items():
        print(f"{name:24}", *(figure(np.array(measured)[:, at], np.array(took["dual"])[:, at]) for at in (0, 1)))


def figure(times: NDArray[np.float64], dual: NDArray[np.float64]) -> str:
    """Return the median of the rounds and the ratio to those of two towers."""
    ratio = geometric(list(times / dual))
    return f"{1e3 * np.median(times):10,.1f} ms {ratio.value:8,.0f} ({ratio.low:,.0f}-{ratio.high:,.0f})"


if __name__ == "__main__":
    main()
