"""Errors of an export."""

from __future__ import annotations

from embedge.bundle.manifest import Certificate
from embedge.errors import EmbedgeError

__all__ = ["ExportError", "GateMiss"]

# A model of many towers has many metrics; the table shows them all.
_SHOWN = 6


class ExportError(EmbedgeError):
    """The recipe or the source needs a change; the message explains it."""


class GateMiss(EmbedgeError):
    """The bundle does not reproduce the original model.

    Attributes:
        certificate: Every metric with its threshold.
    """

    def __init__(self, certificate: Certificate) -> None:
        missed = [name for name, metric in certificate.metrics.items() if not metric.passed]
        names = ", ".join(missed[:_SHOWN]) + (f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else "")
        super().__init__(f"the gate stopped the bundle: {names} missed the threshold; nothing was written")
        self.certificate = certificate
