"""What backends on a GPU have in common: sizes of batches, how many lanes are worth trying, whether to take less."""

from __future__ import annotations

from embedge.backends.base import BackendModel
from embedge.backends.cores import LaneSplit
from embedge.batches.shapes import Profile, profiles
from embedge.config import RuntimeConfig
from embedge.cuda import Driver

__all__ = ["HANG_SECONDS", "LENGTH_MULTIPLE", "TOKENS", "lanes", "sizes", "small"]

LENGTH_MULTIPLE = 8  # of half-precision numbers, which tensor cores want in eights
TOKENS = 16384
HANG_SECONDS = 30.0
"""What `Backend` calls length_multiple, max_batch_tokens and hang_seconds, on any GPU."""

_SMALL = 9 << 30  # bytes; boards sold with 8 GB have a little less, and share it with the processor
_MOST = 3  # one lane each for copies in, computing and copies out; more only share the GPU in smaller pieces


def small(config: RuntimeConfig, memory: int) -> bool:
    """Return whether to take less of a GPU's `memory`, in bytes, at the price of speed."""
    return memory < _SMALL if config.small_memory is None else config.small_memory


def sizes(model: BackendModel) -> dict[str, tuple[Profile, ...]]:
    """Return by graph the sizes of the batches that lanes may be given; see `profiles`."""
    config = model.config
    return profiles(
        model.probes,
        model.bundle.manifest,
        model.probes.towers,
        max_batch_size=config.max_batch_size,
        max_batch_tokens=config.max_batch_tokens or TOKENS,
        length_multiple=LENGTH_MULTIPLE,
        lengths=config.lengths,
    )


def lanes(driver: Driver, config: RuntimeConfig, each: int) -> list[LaneSplit]:
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
    return [LaneSplit(number, 1) for number in range(1, most + 1)]
