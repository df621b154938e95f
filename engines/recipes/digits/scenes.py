"""Pictures and their captions: two handwritten digits side by side, each in a colour.

The handwriting is scikit-learn's copy of the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, 1998, UCI): 1,797 digits of 8 x 8 pixels. A thing is a digit in a colour, numbered colour * 10 + digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from embedge.content import Image

__all__ = ["CAPTIONS", "COLOURS", "DIGITS", "HALVES", "Scenes", "captions", "draw", "pictures"]

COLOURS = {
    "red": (230, 60, 50),
    "green": (60, 190, 80),
    "blue": (70, 110, 240),
    "yellow": (240, 210, 60),
    "white": (240, 240, 240),
    "pink": (240, 120, 200),
}
DIGITS = tuple("zero one two three four five six seven eight nine".split())
HALVES = ("left", "right")
HEIGHT, HALF, INK = 24, 24, 16  # pixels: a picture is two squares, a digit moves about in its own
_TRAINING = 1500  # of the 1,797; the others are never trained on

_THINGS = tuple(f"a {colour} {digit}" for colour in COLOURS for digit in DIGITS)
# Every caption: of both things, then of the left one alone, then of the right one alone.
CAPTIONS = (
    *(f"{left} beside {right}" for left in _THINGS for right in _THINGS),
    *(f"{thing} on the {half}" for half in HALVES for thing in _THINGS),
)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures and what is in them. pixels: uint8 (n, 24, 48, 3). things: int64 (n, 2), left and right."""

    pixels: NDArray[np.uint8]
    things: NDArray[np.int64]

    def named(self, said: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return each picture's caption, a place in CAPTIONS. said: (n, 2), which things it tells of; one or both."""
        count = len(_THINGS)
        left, right = self.things.T
        alone = np.where(said[:, 0], left, count + right)
        return np.where(said.all(axis=1), left * count + right, count * count + alone)

    def unlike(self) -> Scenes:
        """Return the scenes that are no other's twin, so that a caption fits one picture."""
        _, first = np.unique(self.things, axis=0, return_index=True)
        return Scenes(self.pixels[np.sort(first)], self.things[np.sort(first)])


def draw(count: int, random: np.random.Generator, *, held_out: bool = False) -> Scenes:
    """Draw scenes, with handwriting for training or with that which is held out."""
    ink, digits = _handwriting()
    pool = np.arange(_TRAINING, len(ink)) if held_out else np.arange(_TRAINING)
    chosen = random.choice(pool, (count, 2))
    colours = random.integers(len(COLOURS), size=(count, 2))
    corner = random.integers(HEIGHT - INK + 1, size=(2, count, 2))
    rows = corner[0][..., None] + np.arange(INK)
    columns = corner[1][..., None] + np.arange(INK) + np.array([0, HALF])[:, None]
    pixels = np.zeros((count, HEIGHT, 2 * HALF, 3), np.uint8)
    painted = ink[chosen][..., None] * np.array([*COLOURS.values()], np.float32)[colours][:, :, None, None]
    pixels[np.arange(count)[:, None, None, None], rows[..., None], columns[:, :, None]] = painted
    return Scenes(pixels, colours * len(DIGITS) + digits[chosen])


@cache
def _handwriting() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ink (1797, 16, 16), from 0 to 1, and the digit that each is, in an order drawn once."""
    ink, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(ink))
    doubled = ink[order].reshape(-1, 8, 8).repeat(2, axis=1).repeat(2, axis=2)
    return (doubled / 16).astype(np.float32), digits[order]


def pictures(count: int) -> list[dict[str, Image]]:
    """Return held-out pictures, for the gate."""
    return [{"image": Image(pixels)} for pixels in draw(count, np.random.default_rng(1), held_out=True).pixels]


def captions(count: int) -> list[dict[str, str]]:
    """Return captions, for the gate."""
    chosen = np.random.default_rng(1).choice(len(CAPTIONS), min(count, len(CAPTIONS)), replace=False)
    return [{"text": CAPTIONS[place]} for place in chosen]
