"""A plan on disk: a folder with the plan and its record. Nothing of it is used before both are as they were written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from embedge import atomic
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.errors import BackendError

__all__ = ["CAPTURED", "Damaged", "Plan", "PlanRecord", "head", "write"]

PLAN = "plan"
RECORD = "record.json"
_MOST = 1 << 20  # bytes of a record


CAPTURED = "captured_max_abs"
"""The metric of a plan whose CUDA graphs were proven."""


class Damaged(Exception):
    """A plan's folder doesn't have what was written for this key. The message says how."""


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is on record about a plan, or about a refusal.

    Attributes:
        format: Version of this format.
        key: Everything the plan depends on.
        model: The model's name and version.
        graph: The graph's name.
        created: UTC, ISO 8601.
        seconds: Build time.
        figures: The gate's metrics.
        sha256: Of the plan, hex; empty for a refusal.
        nbytes: Size of the plan in bytes.
        refused: Why the gate or the parser refused it; empty for a plan.
    """

    format: Literal[1] = 1
    key: PlanKey
    model: str
    graph: str
    created: str
    seconds: float
    figures: dict[str, float] = {}
    sha256: str = ""
    nbytes: int = 0
    refused: str = ""

    @property
    def captured(self) -> bool:
        """Whether the gate proved that CUDA graphs give the same results as plain runs."""
        return CAPTURED in self.figures


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the record's file, with the SHA-256 of the record's bytes."""

    record: msgspec.Raw
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A folder with a plan and its record, or only the record of a refusal.

    Attributes:
        folder: The folder.
        record: The record.
    """

    folder: Path
    record: PlanRecord

    @property
    def file(self) -> Path:
        """The plan's file."""
        return self.folder / PLAN

    @classmethod
    def load(cls, folder: Path, key: PlanKey | None = None, vouch: Callable[[bytes], None] | None = None) -> Plan:
        """Load a plan's record, and check the plan's hash.

        Args:
            folder: The plan's folder.
            key: The key it has to have; None accepts any key, and skips the hash.
            vouch: Called with the bytes of the record's file; raises if it doesn't trust them.

        Raises:
            Damaged: The folder has another plan, or a damaged one.
            OSError: A file can't be read.
        """
        data = head(folder / RECORD, _MOST)
        if vouch is not None:
            vouch(data)
        plan = cls(folder, _decode(data))
        if key is not None:
            if differences := plan.record.key.differences(key):
                raise Damaged(f"its record is of another plan: {differences}")
            if not plan.record.refused and atomic.sha256(plan.file) != plan.record.sha256:
                raise Damaged("the plan's SHA-256 is not the one in its record: torn, damaged or changed")
        return plan

    def read(self) -> bytes:
        """Return the plan's bytes, after checking their hash.

        Raises:
            BackendError: The file can't be read, or has changed.
        """
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise BackendError(f"{self.file}: cannot be read: {error.strerror}; 'embedge build --force'") from error
        if hashlib.sha256(data).hexdigest() != self.record.sha256:
            raise BackendError(f"{self.file}: damaged or changed since the start; 'embedge build --force' builds it")
        return data


def write(folder: Path, record: PlanRecord) -> None:
    """Write a plan's record, and make everything in the folder durable."""
    raw = msgspec.json.encode(record)
    sealed = _Sealed(msgspec.Raw(raw), hashlib.sha256(raw).hexdigest())
    (folder / RECORD).write_bytes(msgspec.json.encode(sealed))
    atomic.sync_folder(folder)


def head(path: Path, most: int) -> bytes:
    """Return the content of a small file.

    Args:
        path: The file.
        most: Most bytes it may have.

    Raises:
        Damaged: It is larger, or not a regular file.
        OSError: It can't be read.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise Damaged(f"its {path.name} is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Damaged(f"its {path.name} is too large")
    return data


def _decode(data: bytes) -> PlanRecord:
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if hashlib.sha256(bytes(sealed.record)).hexdigest() != sealed.sha256:
            raise Damaged("its record was damaged or changed")
        record = msgspec.json.decode(sealed.record, type=PlanRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"its record cannot be understood: {error}") from error
    if bool(record.sha256) == bool(record.refused):
        raise Damaged("its record names neither a plan nor a refusal, or both")
    return record
