"""What a run on a GPU found. JSON in and out; a page shows nothing that is not in here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge.errors import InvalidInput
from embedge_bench.results import Estimate

__all__ = ["Check", "Device", "Latency", "Parity", "Rate", "Ratio", "Record", "figure", "read", "rounded", "write"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record refuses what it does not know."""


class Device(_Record, frozen=True, kw_only=True):
    """The GPU. memory: GiB. cuda: the newest that its driver supports. driver: its own words, "" where it has none."""

    name: str
    capability: str
    multiprocessors: int
    memory: float
    cuda: str
    driver: str = ""


class Check(_Record, frozen=True, kw_only=True):
    """Whether a library that gives CUDA does what our lanes need of it. captures: whether it can record work."""

    provider: str
    version: str
    good: bool
    captures: bool = False
    said: str = ""


class Parity(_Record, frozen=True, kw_only=True):
    """How far a way's vectors are from those of the float32 graph on a CPU, and from their own in other company.

    `gap`: 1 minus the lowest cosine; `invariance`: the same between a row alone and among others; `limit`: of both.
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
        """Whether both are within the limit."""
        return max(self.gap, self.invariance) <= self.limit


class Rate(_Record, frozen=True, kw_only=True):
    """Rows a second of a way, at a shape of batches ("4 x 32")."""

    model: str
    precision: str
    way: str
    shape: str
    rows: Estimate


class Latency(_Record, frozen=True, kw_only=True):
    """Milliseconds of one row alone, from its arrays on the host to its vector there: medians over rounds."""

    model: str
    precision: str
    way: str
    shape: str
    p50: Estimate
    p99: Estimate


class Ratio(_Record, frozen=True, kw_only=True):
    """How many times as good a way is as another, in the same rounds. target: what was wanted, where something was."""

    what: str
    model: str
    precision: str
    way: str
    base: str
    shape: str
    value: Estimate
    target: float | None = None


class Record(_Record, frozen=True, kw_only=True):
    """One run. versions: by library. missing: what was not there, or failed, and why. lanes: of those of ours."""

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
        """Whether all that must hold on any GPU does: checks and parity."""
        return all(each.good for each in self.checks) and all(each.good for each in self.parity)


def rounded(value: float) -> float:
    """Return the value with four significant digits: more are chance."""
    return float(f"{value:.4g}")


def figure(found: Estimate) -> Estimate:
    """Return an estimate as it is recorded."""
    low, high = (None if edge is None else rounded(edge) for edge in (found.low, found.high))
    return Estimate(value=rounded(found.value), low=low, high=high)


def read(path: Path) -> Record:
    """Read a record. Raises InvalidInput."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(f"{path}: no record of a run on a GPU: {error}") from error


def write(record: Record, path: Path) -> None:
    """Write a record."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
