"""Device memory and pinned host memory: real bytes at made-up addresses that are never given out twice."""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.simulated.errors import Failure

__all__ = ["Memory", "Region", "Span"]

ALIGNMENT = 256
POISON = 0xFF  # NaN as a float of any width, -1 as an integer
FREED = 0xDB
_PAGE = 4096
_GAP = 1 << 20  # between regions, so that running over an end meets nothing
_POISONED_WHOLE = 64 << 20  # of a larger region only the ends are poisoned: it may be scratch that nobody touches


@dataclass(eq=False)
class Region:
    """Bytes that were allocated as one. base: their address on the device, 0 if not mapped; host: on the host, or 0."""

    base: int
    host: int
    data: NDArray[np.uint8]
    context: object
    alive: bool = True
    nbytes: int = 0

    def __post_init__(self) -> None:
        self.nbytes = self.data.nbytes


@dataclass(frozen=True)
class Span:
    """Some bytes of a region."""

    region: Region
    offset: int
    nbytes: int

    @property
    def data(self) -> NDArray[np.uint8]:
        return self.region.data[self.offset : self.offset + self.nbytes]

    def overlaps(self, other: Span) -> bool:
        before = self.offset + self.nbytes <= other.offset or other.offset + other.nbytes <= self.offset
        return self.region is other.region and not before

    def holds(self, other: Span) -> bool:
        inside = self.offset <= other.offset and other.offset + other.nbytes <= self.offset + self.nbytes
        return self.region is other.region and inside

    def checksum(self) -> int:
        return zlib.crc32(self.data)


class Memory:
    """All memory that a machine ever gave out. Guarded by the machine's lock."""

    def __init__(self, capacity: int, violate: Callable[..., None], *, shared: bool) -> None:
        """shared: pinned memory takes from the same bytes, as on a board where host and GPU have one memory."""
        self.capacity = capacity
        self._shared = shared
        self.taken = 0  # bytes that other processes hold
        self._violate = violate
        self._next = 0x7_0000_0000
        self._device: list[Region] = []  # by base, ascending
        self._pinned: dict[int, Region] = {}  # by host address; freed ones stay, so that their memory is not reused

    @property
    def free(self) -> int:
        used = sum(region.nbytes for region in self.alive() if self._shared or not region.host)
        return max(0, self.capacity - used - self.taken)

    def allocate(self, nbytes: int, context: object) -> Region:
        self._ask(nbytes, self.free)
        data = np.empty(nbytes, np.uint8)
        data[: _POISONED_WHOLE // 2] = data[-_POISONED_WHOLE // 2 :] = POISON
        return self._place(Region(0, 0, data, context))

    def pin(self, nbytes: int, context: object, *, mapped: bool) -> Region:
        self._ask(nbytes, self.free if self._shared else nbytes)
        raw = np.full(nbytes + _PAGE, POISON, np.uint8)
        skip = -raw.ctypes.data % _PAGE
        data = raw[skip : skip + nbytes]
        region = Region(0, data.ctypes.data, data, context)
        self._pinned[region.host] = region
        return self._place(region) if mapped else region

    def _ask(self, nbytes: int, free: int) -> None:
        if nbytes <= 0:
            raise Failure("CUDA_ERROR_INVALID_VALUE", f"{nbytes} bytes asked for")
        if nbytes > free:
            raise Failure("CUDA_ERROR_OUT_OF_MEMORY", f"{nbytes} bytes asked for, {free} free")

    def _place(self, region: Region) -> Region:
        region.base = self._next
        self._next += region.nbytes + _GAP
        self._next += -self._next % ALIGNMENT
        self._device.append(region)
        return region

    def at(self, pointer: int, nbytes: int = 1) -> Span:
        """Return the bytes at a device address; CUDA_ERROR_ILLEGAL_ADDRESS and a violation if they are not there."""
        place = bisect.bisect_right(self._device, pointer, key=lambda region: region.base) - 1
        region = self._device[place] if place >= 0 else None
        if region is None or pointer >= region.base + region.nbytes + _GAP // 2:
            self._violate(f"{pointer:#x} is no device address", "CUDA_ERROR_ILLEGAL_ADDRESS")
        return self._span(region, pointer - region.base, nbytes, f"device address {pointer:#x}")

    def on_host(self, address: int, nbytes: int) -> Span:
        """Return the pinned bytes at a host address; a violation if it is pageable memory."""
        for region in self._pinned.values():
            if region.host <= address < region.host + max(region.nbytes, 1):
                return self._span(region, address - region.host, nbytes, f"pinned address {address:#x}")
        self._violate(f"host address {address:#x} is pageable: an asynchronous copy of it waits for the device")
        raise NotImplementedError

    def _span(self, region: Region, offset: int, nbytes: int, name: str) -> Span:
        if not region.alive:
            self._violate(f"use after free: {name}", "CUDA_ERROR_ILLEGAL_ADDRESS")
        if nbytes < 0 or offset + nbytes > region.nbytes:
            message = f"{nbytes} bytes at {name} reach beyond the {region.nbytes} of its allocation"
            self._violate(message, "CUDA_ERROR_ILLEGAL_ADDRESS")
        return Span(region, offset, nbytes)

    def starting_at(self, address: int, *, host: bool) -> Region:
        """Return the allocation that starts at this address, to be freed."""
        regions = self._pinned.values() if host else (each for each in self._device if not each.host)
        for region in regions:
            if (region.host if host else region.base) == address:
                if not region.alive:
                    self._violate(f"{address:#x} is freed twice", "CUDA_ERROR_INVALID_VALUE")
                return region
        self._violate(f"{address:#x} was never allocated, or not as this kind", "CUDA_ERROR_INVALID_VALUE")
        raise NotImplementedError

    def release(self, region: Region) -> None:
        """Free a region. Pinned bytes are kept and marked, so that who still writes to them is found out."""
        region.alive = False
        if region.host:
            region.data[:] = FREED
        else:
            region.data = region.data[:0]

    def written_after_free(self) -> list[Region]:
        """Return the pinned regions that the host wrote to after they were freed."""
        return [region for region in self._pinned.values() if not region.alive and np.any(region.data != FREED)]

    def alive(self, context: object = None) -> list[Region]:
        """Return what is not freed: all, or that of one context."""
        regions = {id(region): region for region in (*self._device, *self._pinned.values())}
        return [each for each in regions.values() if each.alive and context in (None, each.context)]
