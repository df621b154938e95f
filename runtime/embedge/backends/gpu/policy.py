"""Choices that every GPU backend makes alike: batch sizes, the number of lanes to try, and when to save memory."""

from __future__ import annotations

from embedge.backends.base import BackendModel
from embedge.backends.cores import LaneSplit
from embedge.batches.shapes import Profile, profiles
from embedge.config import RuntimeConfig
from embedge.cuda import Driver

__all__ = ["HANG_SECONDS", "LENGTH_MULTIPLE", "MAX_BATCH_TOKENS", "batch_profiles", "lane_splits", "small_memory"]

LENGTH_MULTIPLE = 8  # half-precision numbers: tensor cores work on multiples of eight
MAX_BATCH_TOKENS = 16384
HANG_SECONDS = 30.0
"""`length_multiple`, `max_batch_tokens` and `hang_seconds` of `Backend`, on any GPU."""

_SMALL = 9 << 30  # bytes; boards sold with 8 GB have a little less, and share it with the CPU
_MOST_LANES = 3  # copying in, computing and copying out overlap with three; more only cut the GPU into smaller pieces


def small_memory(config: RuntimeConfig, memory: int) -> bool:
    """Return whether to trade speed for memory.

    Args:
        config: Its `small_memory` decides, if set.
        memory: Total memory of the GPU in bytes.
    """
    return memory < _SMALL if config.small_memory is None else config.small_memory


def batch_profiles(model: BackendModel) -> dict[str, tuple[Profile, ...]]:
    """Return the batch sizes that lanes may be given, by graph; see `profiles`."""
    config = model.config
    return profiles(
        model.probes,
        model.bundle.manifest,
        model.probes.towers,
        max_batch_size=config.max_batch_size,
        max_batch_tokens=config.max_batch_tokens or MAX_BATCH_TOKENS,
        length_multiple=LENGTH_MULTIPLE,
        lengths=config.lengths,
    )


def lane_splits(driver: Driver, config: RuntimeConfig, lane_bytes: int) -> list[LaneSplit]:
    """Return the lane counts worth measuring: one, two and three, or one alone on a small GPU.

    All candidates are open at once while they are measured, so together they must fit into the free memory.

    Args:
        driver: The GPU.
        config: Its `small_memory` may limit the GPU to one lane.
        lane_bytes: GPU memory that one lane needs, in bytes.

    Raises:
        CudaError: The GPU doesn't answer.
    """
    driver.enter()
    try:
        free, total = driver.free_memory()
    finally:
        driver.leave()
    most = 1 if small_memory(config, total) else _MOST_LANES
    while most > 1 and most * (most + 1) // 2 * lane_bytes > free:
        most -= 1
    return [LaneSplit(number, 1) for number in range(1, most + 1)]
