"""The demo of images and texts: train two towers, export, prove and serve them, and search each with the other.

The pictures are handwritten digits in colours; engines/recipes/digits says where they are from. What the served
bundle finds must be what the trained towers find in PyTorch, or the demo fails. `make demo-multimodal` runs it;
`--quick` trains for a few seconds only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.table import Table
from sheet import Hit, Row, contact_sheet
from steps import ENGINES, DemoError, console, ended, serving, step

from embedge import Client, Image

MODEL = "digits"
RECIPE = ENGINES / "recipes" / "digits"
BUILD = ENGINES.parent / "build" / "digits"
sys.path.insert(0, str(RECIPE))  # the recipe's own modules

from scenes import CAPTIONS, COLOURS, DIGITS, Scenes, draw  # noqa: E402
from train import Pair, trained  # noqa: E402

STEPS, QUICK_STEPS = 500, 60
PICTURES = 300
SHOWN, BEST = 4, 5  # rows of each kind on the contact sheet, and hits in a row

Vectors = NDArray[np.float32]


def demo(steps: int) -> None:
    """Run every step, with towers trained for so many steps."""
    console.print("[bold]1 · train[/] two towers on handwriting in colours")
    pair = trained(steps, console)
    step("2 · export", "export", "--recipe", str(RECIPE / "digits.toml"), "--out", str(ENGINES), "--force")
    scenes = draw(PICTURES, np.random.default_rng(2), held_out=True).unlike()
    files, places = saved(scenes), scenes.named(np.ones((len(scenes.things), 2), bool))
    with serving("3 · serve", MODEL) as address, Client(address) as client:
        pictures = client.embed(MODEL, [Image(file) for file in files])
        captions = client.embed(MODEL, [CAPTIONS[place] for place in places])
        console.print(compared(original(pair, scenes, places), (pictures, captions)))
        console.print(classified(client, files, scenes))
        sheet = BUILD / "found.png"
        contact_sheet(found(client, scenes, pictures, places, captions), sheet)
    console.print(
        f"[green]done[/]: the bundle is in {ENGINES.name}/{MODEL}, what was found in build/digits/{sheet.name}"
    )


def saved(scenes: Scenes) -> list[Path]:
    """Save the pictures as PNG files; return their paths."""
    folder = BUILD / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:03}.png" for number in range(len(scenes.pixels))]
    for file, pixels in zip(files, scenes.pixels, strict=True):
        Pillow.fromarray(pixels).save(file)
    return files


def original(pair: Pair, scenes: Scenes, places: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
    """Return the vectors of pictures and captions as PyTorch makes them, without files, tokenizer or server of ours."""
    with torch.no_grad():
        return pair.pictures(scenes.pixels).numpy(), pair.captions(places).numpy()


def compared(before: tuple[Vectors, Vectors], after: tuple[Vectors, Vectors]) -> Table:
    """Return the table of recall before export and after serving. Raises DemoError if they differ."""
    table = Table(title=f"recall@1 among {len(before[0])} held-out pictures", title_justify="left")
    for heading in ("", "PyTorch", "served"):
        table.add_column(heading, justify="right" if heading else "left")
    ways = {"a picture for a caption": (1, 0), "a caption for a picture": (0, 1)}
    for way, (queries, rows) in ways.items():
        recalls = [recall(vectors[queries] @ vectors[rows].T) for vectors in (before, after)]
        table.add_row(way, *(f"{each:.4f}" for each in recalls))
        if recalls[0] != recalls[1]:
            raise DemoError(f"{way}: recall@1 is {recalls[0]:.4f} in PyTorch and {recalls[1]:.4f} served")
    lowest = min(float((mine * theirs).sum(axis=1).min()) for mine, theirs in zip(before, after, strict=True))
    table.add_row("lowest cosine to PyTorch's vector", "", f"{lowest:.7f}")
    return table


def recall(scores: Vectors) -> float:
    """Return how often the best of a row is the one that belongs to it."""
    return float((scores.argmax(axis=1) == np.arange(len(scores))).mean())


def classified(client: Client, files: Sequence[Path], scenes: Scenes) -> Table:
    """Return the table of what is told of the pictures by labels alone: no tower was trained to tell digits apart."""
    images = [Image(file) for file in files]
    left, right = scenes.things[:, 0] % len(DIGITS), scenes.things[:, 1] // len(DIGITS)
    digits = client.classify(MODEL, images, "digits")  # a label set of the bundle
    templates = [f"a {{}} {digit} on the right" for digit in DIGITS]
    colours = client.classify(MODEL, images, list(COLOURS), templates=templates)  # labels of one's own
    table = Table(title="told without training", title_justify="left")
    for heading in ("", "right", "by chance"):
        table.add_column(heading, justify="right" if heading else "left")
    for what, scores, truth in (("digit on the left", digits, left), ("colour on the right", colours, right)):
        share = float((scores.values.argmax(axis=1) == truth).mean())
        table.add_row(what, f"{share:.4f}", f"{1 / scores.values.shape[1]:.4f}")
    return table


def found(
    client: Client, scenes: Scenes, pictures: Vectors, places: NDArray[np.int64], captions: Vectors
) -> dict[str, list[Row]]:
    """Return the rows of the contact sheet: pictures found by whole captions and by half ones, captions by pictures."""
    left_only = scenes.named(np.tile([True, False], (len(places), 1)))
    halves = list(dict.fromkeys(left_only[-2 * SHOWN :]))[:SHOWN]
    asked = client.embed(MODEL, [CAPTIONS[place] for place in halves])
    return {
        "Pictures, by what is in them": rows(
            [CAPTIONS[place] for place in places[:SHOWN]],
            captions[:SHOWN] @ pictures.T,
            scenes.pixels,
            places[:SHOWN, None] == places,
        ),
        "Pictures, by half of what is in them": rows(
            [CAPTIONS[place] for place in halves],
            asked @ pictures.T,
            scenes.pixels,
            np.array(halves)[:, None] == left_only,
        ),
        "Captions, by a picture": rows(
            scenes.pixels[-SHOWN:],
            pictures[-SHOWN:] @ captions.T,
            [CAPTIONS[place] for place in places],
            places[-SHOWN:, None] == places,
        ),
    }


def rows(queries: Sequence, scores: Vectors, things: Sequence, right: NDArray[np.bool_]) -> list[Row]:
    """Return a row a query with its best things."""
    best = np.argsort(-scores, axis=1)[:, :BEST]
    return [
        Row(query, [Hit(things[place], float(scores[at, place]), bool(right[at, place])) for place in best[at]])
        for at, query in enumerate(queries)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="train for a few seconds only")
    quick = parser.parse_args().quick
    sys.exit(ended(lambda: demo(QUICK_STEPS if quick else STEPS)))
