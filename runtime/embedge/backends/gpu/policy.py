"""What backends on a GPU have in common: sizes of batches, how many lanes are worth trying, whether to take less."""

from __future__ import annotations

from embedge.backends.base import Model
from embedge.backends.cores import Slots
from embedge.batches.shapes import Profile, profiles
from embedge.config import RuntimeConfig
from embedge.cuda import Driver

__all__ = ["PATIENCE", "RUNG", "TOKENS", "lanes", "sizes", "small"]

RUNG = 8  # of half-precision numbers, which tensor cores want in eights
TOKENS = 16384
PATIENCE = 30.0
"""What `Backend` calls rung, token_budget and patience, on any GPU."""

_SMALL = 9 << 30  # bytes; boards sold with 8 GB have a little less, and share it with the processor
_MOST = 3  # one lane each for copies in, computing and copies out; more only share the GPU in smaller pieces


def small(config: RuntimeConfig, memory: int) -> bool:
    """Return whether to take less of a GPU's `memory`, in bytes, at the price of speed."""
    return memory < _SMALL if config.small_memory is None else config.small_memory


def sizes(model: Model) -> dict[str, tuple[Profile, ...]]:
    """Return by graph the sizes of the batches that lanes may be given; see `profiles`."""
    config = model.config
    return profiles(
        model.probes,
        model.bundle.manifest,
        model.probes.towers,
        max_batch=config.max_batch,
        token_budget=config.token_budget or TOKENS,
        rung=RUNG,
        lengths=config.lengths,
    )


def lanes(driver: Driver, config: RuntimeConfig, each: int) -> list[Slots]:
    """Return the ways to cut the GPU into lanes of `each` bytes that are worth measuring: one lane, two, three.

    Only those for which all have room at once, as they do while they are measured; one alone on a small GPU.
    """
    driver.enter()
    try:
        free, total = driver.free_memory()
    finally:
        driver.leave()
    most = 1 if small(config, total) else _MOST
    while most > 1 and most * (most + 1) // 2 * each > free:
        most -= 1
    return [Slots(number, 1) for number in range(1, most + 1)]
