"""`python -m embedge_bench.prepare`: the speed of preparing inputs, beside the original's processor.

Both read the bytes of the same files and return model inputs; ours leaves rescaling and normalisation to the graph.
They alternate file by file, so a disturbance hits both, and are compared as ratios round by round.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from embedge.bundle.part_specs import CenterCrop, ImagePrepare, Resize
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError
from embedge.inputs import PartInput, open_part
from embedge.request import Request
from embedge_bench.results import Estimate
from embedge_bench.stats import geometric

__all__ = ["FileCase", "compare", "images", "prepare", "scaling"]

_SIZES = ((640, 480), (1920, 1080), (1080, 1920))
_QUALITY = 90
_REQUEST = Request(items=[])


@dataclass(frozen=True, slots=True)
class FileCase:
    """One kind of file: its name, some files, our preparation, and the original's."""

    name: str
    files: Sequence[bytes]
    ours: PartInput
    theirs: Callable[[bytes], object]


def prepare(
    rounds: Annotated[int, typer.Option(help="Times that every file is prepared by both.", min=2)] = 20,
) -> None:
    """Compare with the original's processor, one thread each; then one thread with two."""
    console = Console()
    for case in images():
        found = compare(case, rounds)
        console.print(
            f"{case.name}: {found.value:.2f} times the original's speed ({found.low:.2f} to {found.high:.2f})"
        )
        console.print(f"{case.name}: two threads are {scaling(case, rounds):.2f} times as fast as one")


def compare(case: FileCase, rounds: int) -> Estimate:
    """Return how many times as many files are prepared here as by the original, a second of one thread's CPU time."""
    _prepared(case, case.files[0])
    ratios = []
    for _ in range(rounds):
        moments = [time.thread_time()]
        for file in case.files:
            case.theirs(file)
            moments.append(time.thread_time())
            _prepared(case, file)
            moments.append(time.thread_time())
        taken = np.diff(moments)
        ratios.append(float(taken[0::2].sum() / taken[1::2].sum()))
    return geometric(ratios)


def scaling(case: FileCase, rounds: int) -> float:
    """Return how many times as many files a second two threads prepare as one."""
    return geometric([_taken(case, threads=1) / _taken(case, threads=2) for _ in range(rounds)]).value


def _taken(case: FileCase, *, threads: int) -> float:
    """Return the seconds in which so many threads prepare every file twice."""
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        list(pool.map(partial(_prepared, case), [*case.files, *case.files]))
        return time.perf_counter() - begin


def images() -> Iterator[FileCase]:
    """Yield JPEG files of several sizes, prepared as for CLIP at 224 x 224."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil
    from transformers.image_utils import load_image

    steps = (Resize(fit="shortest", height=224, width=224), CenterCrop(height=224, width=224))
    spec = ImagePrepare(inputs={"pixels": "pixels"}, height=224, width=224, steps=steps)
    ours = open_part(spec, RuntimeConfig(), Path)
    processor = CLIPImageProcessorPil()

    def theirs(data: bytes) -> Any:
        return processor(load_image(Image.open(io.BytesIO(data))), return_tensors="np")

    for width, height in _SIZES:
        files = [_photo(width, height, seed) for seed in range(4)]
        yield FileCase(f"JPEG {width} x {height}", files, ours, theirs)


def _photo(width: int, height: int, seed: int) -> bytes:
    """Return a JPEG file with as much detail as a photograph: noise of every scale, the finer the fainter."""
    from PIL import Image

    draw = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for scale in (256, 64, 16, 4, 1):
        noise = draw.integers(0, 256, (height // scale + 1, width // scale + 1, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((width, height))) * scale**0.5
    total *= 255 / total.max()
    file = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _prepared(case: FileCase, data: bytes) -> object:
    (row,) = case.ours.prepare([data], _REQUEST)
    if isinstance(row, EmbedgeError):
        raise row
    return row


if __name__ == "__main__":
    typer.run(prepare)
