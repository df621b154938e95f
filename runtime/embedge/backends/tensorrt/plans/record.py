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
"""The figure of a plan whose captured graphs were proven."""


class Damaged(Exception):
    """What is in a plan's folder is not what was written for this key. The text says in what."""


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a plan. model, graph: names, for the reader. created: UTC, ISO 8601. seconds: it took to build.

    sha256, nbytes: of the plan. figures: of the gate. refused: why there is no plan and none is to be built: the gate
    or the parser said so.
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
        """Whether the gate has seen that captured graphs give what plain runs give."""
        return CAPTURED in self.figures


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the record's file. sha256: of the record's bytes, so that a changed byte is seen."""

    record: msgspec.Raw
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A folder that holds a plan and its record, or the record of a refusal alone."""

    folder: Path
    record: PlanRecord

    @property
    def file(self) -> Path:
        """Where the plan is."""
        return self.folder / PLAN

    @classmethod
    def load(cls, folder: Path, key: PlanKey | None = None, vouch: Callable[[bytes], None] | None = None) -> Plan:
        """Return the plan of a folder, its hash compared. Raises Damaged, OSError.

        key: it must be for this and nothing else. None: whatever it is for; the plan itself is then not looked at.
        vouch: is given the bytes of the record's file, and raises what it likes if it does not trust them.
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
        """Return the plan, proven to be the one that was built. Raises BackendError."""
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise BackendError(f"{self.file}: cannot be read: {error.strerror}; 'embedge build --force'") from error
        if hashlib.sha256(data).hexdigest() != self.record.sha256:
            raise BackendError(f"{self.file}: damaged or changed since the start; 'embedge build --force' builds it")
        return data


def write(folder: Path, record: PlanRecord) -> None:
    """Write a plan's record, and make it and all else in the folder durable."""
    raw = msgspec.json.encode(record)
    sealed = _Sealed(msgspec.Raw(raw), hashlib.sha256(raw).hexdigest())
    (folder / RECORD).write_bytes(msgspec.json.encode(sealed))
    atomic.sync_folder(folder)


def head(path: Path, most: int) -> bytes:
    """Return what is in a small file, not more than `most` bytes. Raises Damaged, OSError."""
    if path.exists() and not path.is_file():  # opening a pipe waits for whoever writes
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
