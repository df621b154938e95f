"""The record of a run on a GPU, as JSON. The page shows only what is in it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge.errors import InvalidInput
from embedge_bench.results import Estimate

__all__ = ["Check", "Device", "Latency", "Parity", "Rate", "Ratio", "Record", "figure", "read", "rounded", "write"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records: unknown fields are errors."""


class Device(_Record, frozen=True, kw_only=True):
    """The GPU. memory: GiB. cuda: newest version the driver supports. driver: its version, "" if unknown."""

    name: str
    capability: str
    multiprocessors: int
    memory: float
    cuda: str
    driver: str = ""


class Check(_Record, frozen=True, kw_only=True):
    """Whether a CUDA library does what lanes need. captures: whether it can capture work."""

    provider: str
    version: str
    good: bool
    captures: bool = False
    said: str = ""


class Parity(_Record, frozen=True, kw_only=True):
    """How far an implementation's vectors are from the float32 graph's on a CPU, and how much they depend on the batch.

    Attributes:
        gap: 1 minus the lowest cosine with the float32 graph's vectors.
        invariance: 1 minus the lowest cosine between a row alone and in a batch.
        limit: The threshold of both.
    """

    model: str
    precision: str
    way: str
    rows: int
    gap: float
    invariance: float
    limit: float

    @property
    def good(self) -> bool:
        """Whether both are within the threshold."""
        return max(self.gap, self.invariance) <= self.limit


class Rate(_Record, frozen=True, kw_only=True):
    """Rows per second of an implementation, at a batch shape ("4 x 32")."""

    model: str
    precision: str
    way: str
    shape: str
    rows: Estimate


class Latency(_Record, frozen=True, kw_only=True):
    """Milliseconds for one row alone, from its arrays on the host to its vector on the host: medians over rounds."""

    model: str
    precision: str
    way: str
    shape: str
    p50: Estimate
    p99: Estimate


class Ratio(_Record, frozen=True, kw_only=True):
    """How many times as good as another an implementation is, in the same rounds. target: the goal, if it has one."""

    what: str
    model: str
    precision: str
    way: str
    base: str
    shape: str
    value: Estimate
    target: float | None = None


class Record(_Record, frozen=True, kw_only=True):
    """One run. versions: by library. missing: what was missing or failed, and why. lanes: of embedge's lanes."""

    date: str
    device: Device
    versions: dict[str, str]
    lanes: int
    rounds: int
    checks: tuple[Check, ...] = ()
    parity: tuple[Parity, ...] = ()
    rates: tuple[Rate, ...] = ()
    latencies: tuple[Latency, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the checks and parity hold, as they must on any GPU."""
        return all(each.good for each in self.checks) and all(each.good for each in self.parity)


def rounded(value: float) -> float:
    """Return the value with four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def figure(found: Estimate) -> Estimate:
    """Return an estimate in the record's form."""
    low, high = (None if edge is None else rounded(edge) for edge in (found.low, found.high))
    return Estimate(value=rounded(found.value), low=low, high=high)


def read(path: Path) -> Record:
    """Read a record.

    Raises:
        InvalidInput: The file isn't a record.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(f"{path}: no record of a run on a GPU: {error}") from error


def write(record: Record, path: Path) -> None:
    """Write a record."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
