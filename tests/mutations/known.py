"""Mutants that no test can kill, each with the reason: without what they remove, the code does the same."""

from __future__ import annotations

__all__ = ["KNOWN"]

KNOWN: dict[str, str] = {}
