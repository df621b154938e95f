"""Every error a user can meet, and the status each one has on the wire.

    EmbedgeError
    ├── InvalidInput        the item or an option is wrong; the caller can mend it
    ├── NotFound            no such model, tower, output or prompt; the message lists what there is
    ├── Overloaded          admission refused; `retry_after` says when to come back
    ├── DeadlineExceeded    the deadline passed before the work was done
    ├── Unavailable         loading, draining, or a lane is being rebuilt
    ├── BackendError        a lane failed, or its numbers were not finite
    ├── BundleError         the bundle on disk cannot be trusted or understood
    └── Unauthenticated     missing or wrong token

Each class carries its gRPC status name and HTTP status, so the wire mapping is this one table.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendError",
    "BundleError",
    "DeadlineExceeded",
    "EmbedgeError",
    "InvalidInput",
    "NotFound",
    "Overloaded",
    "Unauthenticated",
    "Unavailable",
    "from_status",
]


class EmbedgeError(Exception):
    """Base of all errors raised on purpose.

    `index` is the position of the item at fault, where one item is at fault.
    """

    grpc: ClassVar[str] = "UNKNOWN"
    http: ClassVar[int] = 500

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.index = index


class InvalidInput(EmbedgeError, ValueError):
    """The input breaks a rule that the message names; sending it again cannot help."""

    grpc = "INVALID_ARGUMENT"
    http = 422


class NotFound(EmbedgeError, LookupError):
    """Unknown model, tower, output or prompt; the message lists the known ones."""

    grpc = "NOT_FOUND"
    http = 404


class Overloaded(EmbedgeError):
    """Admission refused. `retry_after` is in seconds."""

    grpc = "RESOURCE_EXHAUSTED"
    http = 429

    def __init__(self, message: str, *, retry_after: float = 1.0, index: int | None = None) -> None:
        super().__init__(message, index=index)
        self.retry_after = retry_after


class DeadlineExceeded(EmbedgeError, TimeoutError):
    """The deadline passed before the embedding was computed."""

    grpc = "DEADLINE_EXCEEDED"
    http = 504


class Unavailable(EmbedgeError):
    """The model is loading, draining or being rebuilt; the same call can succeed later."""

    grpc = "UNAVAILABLE"
    http = 503


class BackendError(EmbedgeError, RuntimeError):
    """A lane failed or returned numbers that are not finite."""

    grpc = "INTERNAL"
    http = 500


class BundleError(EmbedgeError):
    """A bundle is damaged, unknown in format, or not what its manifest says."""

    grpc = "FAILED_PRECONDITION"
    http = 500


class Unauthenticated(EmbedgeError):
    """The call carried no token, or a wrong one."""

    grpc = "UNAUTHENTICATED"
    http = 401


_BY_STATUS: dict[str, type[EmbedgeError]] = {
    cls.grpc: cls
    for cls in (
        InvalidInput,
        NotFound,
        Overloaded,
        DeadlineExceeded,
        Unavailable,
        BackendError,
        BundleError,
        Unauthenticated,
    )
}


def from_status(status: str, message: str, *, index: int | None = None) -> EmbedgeError:
    """Return the error that a gRPC status name stands for (the client's half of the table)."""
    return _BY_STATUS.get(status, EmbedgeError)(message, index=index)
