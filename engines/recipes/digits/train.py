"""Train the two towers on pictures and captions drawn anew for every step: about a minute on two cores."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scenes import CAPTIONS, Scenes, draw
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from towers import CaptionTower, PictureTower

from embedge_export import recipe

__all__ = ["Pair", "trained"]

HERE = Path(__file__).parent
RECIPE = HERE / "digits.toml"
BATCH, RATE, SEED = 256, 2e-3, 0
# Captions tell of both things, of the left one, or of the right one: which, and how often.
TOLD, SHARES = np.array([[True, True], [True, False], [False, True]]), (0.7, 0.15, 0.15)


class Pair(nn.Module):
    """Both towers, with the tokens of every caption."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = recipe.load(RECIPE)
        self.image = PictureTower(**self.plan.tower["image"].arguments)
        self.text = CaptionTower(**self.plan.tower["text"].arguments)
        words = Tokenizer.from_file(str(HERE / "words.json"))
        words.enable_padding()
        encoded = words.encode_batch(CAPTIONS)
        self.ids = torch.tensor([each.ids for each in encoded])
        self.mask = torch.tensor([each.attention_mask for each in encoded])

    def pictures(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return vectors (n, dim) of pixels (n, 24, 48, 3)."""
        vectors: Tensor = self.image(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        return vectors

    def captions(self, places: NDArray[np.int64]) -> Tensor:
        """Return vectors (n, dim) of the captions at these places in CAPTIONS."""
        chosen = torch.from_numpy(places)
        vectors: Tensor = self.text(self.ids[chosen], self.mask[chosen])
        return vectors

    def files(self) -> dict[str, Path]:
        """Return where the recipe says that each tower's weights lie."""
        return {name: (HERE / str(tower.weights)).resolve() for name, tower in self.plan.tower.items()}


def trained(steps: int, console: Console) -> Pair:
    """Return the pair, as it was saved by a run of the same code and number of steps, or trained now."""
    torch.set_num_threads(1)  # the same sums on any machine; two threads on shared cores wait more than they help
    torch.manual_seed(SEED)
    pair, made_by = Pair(), _code(steps)
    if all(_made_by(file) == made_by for file in pair.files().values()):
        console.print("the towers are trained already")
        for name, file in pair.files().items():
            getattr(pair, name).load_state_dict(load_file(file))
    else:
        _train(pair, steps, console)
        for name, file in pair.files().items():
            _save(getattr(pair, name), file, made_by)
    return pair.eval()


def _code(steps: int) -> str:
    """Return a hash of what the weights come from."""
    sources = [HERE / name for name in ("towers.py", "scenes.py", "train.py", "digits.toml", "words.json")]
    return sha256(b"\0".join([str(steps).encode(), *(source.read_bytes() for source in sources)])).hexdigest()


def _made_by(file: Path) -> str | None:
    if not file.is_file():
        return None
    with safe_open(file, "pt") as tensors:
        return (tensors.metadata() or {}).get("made_by")


def _save(tower: nn.Module, file: Path, made_by: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".half")  # so that an interrupted run leaves no file that looks whole
    save_file(tower.state_dict(), half, metadata={"made_by": made_by})
    half.replace(file)


def _train(pair: Pair, steps: int, console: Console) -> None:
    random = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    with _progress(steps, console) as tell:
        for _ in range(steps):
            loss = _loss(pair, draw(BATCH, random), random)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            tell(loss.item())


def _loss(pair: Pair, scenes: Scenes, random: np.random.Generator) -> Tensor:
    """Return the loss of CLIP (Radford et al., 2021, arXiv:2103.00020); captions may fit several pictures."""
    said = TOLD[random.choice(len(TOLD), len(scenes.things), p=SHARES)]
    same = scenes.things[:, None] == scenes.things
    fits = torch.from_numpy((same | ~said[:, None]).all(axis=-1)).float()
    scale = pair.plan.space["scenes"].scale
    logits = scale * pair.captions(scenes.named(said)) @ pair.pictures(scenes.pixels).T
    return (_cross_entropy(logits, fits) + _cross_entropy(logits.T, fits.T)) / 2


def _cross_entropy(logits: Tensor, fits: Tensor) -> Tensor:
    return functional.cross_entropy(logits, fits / fits.sum(dim=1, keepdim=True))


@contextmanager
def _progress(steps: int, console: Console) -> Iterator[Callable[[float], None]]:
    columns = (TextColumn("loss {task.fields[loss]:.2f}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("", total=steps, loss=float("nan"))
        yield lambda loss: progress.update(bar, advance=1, loss=loss)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    trained(parser.parse_args().steps, Console())
