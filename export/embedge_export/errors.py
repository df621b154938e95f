"""What can go wrong in an export, apart from bugs."""

from __future__ import annotations

from embedge.errors import EmbedgeError
from embedge.manifest import Certificate

__all__ = ["ExportError", "GateMiss"]


class ExportError(EmbedgeError):
    """The recipe or the source cannot be exported as it is; the message says what to change."""


class GateMiss(EmbedgeError):
    """The bundle's vectors are not the original model's. `certificate` has every figure beside its limit."""

    def __init__(self, certificate: Certificate) -> None:
        missed = [name for name, figure in certificate.figures.items() if not figure.passed]
        super().__init__(f"the gate stopped the bundle: {', '.join(missed)} missed the limit; nothing was written")
        self.certificate = certificate
