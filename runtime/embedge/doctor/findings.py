"""What the doctor finds, a line each."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "Report"]


class Finding(msgspec.Struct, frozen=True):
    """One line. help: what to do about it, where there is something to do.

    state: `ok`; `missing`, if more could be had; `warning`, if it harms; `failed`, if the doctor could not find out.
    """

    topic: str
    text: str
    state: Literal["ok", "missing", "warning", "failed"] = "ok"
    help: str = ""


class Report(msgspec.Struct, frozen=True):
    """All findings, the backend that would run models here (empty: none can), and why."""

    findings: list[Finding]
    backend: str
    reason: str
