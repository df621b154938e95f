"""The doctor's findings, one line each."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "Report"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the report.

    Attributes:
        state: `ok`; `missing` if more is possible; `warning` if it does harm; `failed` if the probe failed.
        help: What to do about it, or empty.
    """

    topic: str
    text: str
    state: Literal["ok", "missing", "warning", "failed"] = "ok"
    help: str = ""


class Report(msgspec.Struct, frozen=True):
    """All findings, the backend for models on this machine (empty: none), and the reason."""

    findings: list[Finding]
    backend: str
    reason: str
