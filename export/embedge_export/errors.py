"""What can go wrong in an export, apart from bugs."""

from __future__ import annotations

from embedge.bundle.manifest import Certificate
from embedge.errors import EmbedgeError

__all__ = ["ExportError", "GateMiss"]

# A model of many towers has many figures; the table shows them all.
_TOLD = 6


class ExportError(EmbedgeError):
    """The recipe or the source cannot be exported as it is; the message says what to change."""


class GateMiss(EmbedgeError):
    """The bundle's vectors are not the original model's. `certificate` has every metric beside its threshold."""

    def __init__(self, certificate: Certificate) -> None:
        missed = [name for name, metric in certificate.metrics.items() if not metric.passed]
        told = ", ".join(missed[:_TOLD]) + (f" and {len(missed) - _TOLD} more" if len(missed) > _TOLD else "")
        super().__init__(f"the gate stopped the bundle: {told} missed the limit; nothing was written")
        self.certificate = certificate
