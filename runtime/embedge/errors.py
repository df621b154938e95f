"""All errors, and the status of each on the wire.

    EmbedgeError
    ├── InvalidInput        an item or an option is wrong; fix it before you retry
    ├── NotFound            unknown model, tower, output or prompt; the message lists the known ones
    ├── Overloaded          the queue is full; retry after `retry_after` seconds
    ├── DeadlineExceeded    the deadline passed before the work was done
    ├── Unavailable         the model is loading, draining or being rebuilt; retry
    ├── BackendError        a lane failed, or its numbers were not finite
    ├── BundleError         the bundle on disk is damaged or unknown in format
    └── Unauthenticated     the token is missing or wrong

Each class carries its gRPC status name and HTTP status.
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
    """Base class of all errors.

    Attributes:
        message: The message, without the index.
        index: The index of the bad item; None if the error isn't about one item.
        grpc: The name of the gRPC status.
        http: The HTTP status.
    """

    grpc: ClassVar[str] = "UNKNOWN"
    http: ClassVar[int] = 500

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.index = index


class InvalidInput(EmbedgeError, ValueError):
    """An item or an option is wrong; the message names the rule. A retry without a fix fails again."""

    grpc = "INVALID_ARGUMENT"
    http = 422


class NotFound(EmbedgeError, LookupError):
    """Unknown model, tower, output or prompt; the message lists the known ones."""

    grpc = "NOT_FOUND"
    http = 404


class Overloaded(EmbedgeError):
    """The queue is full.

    Attributes:
        retry_after: Seconds to wait before a retry.
    """

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
    """The model is loading, draining or being rebuilt. The same call can succeed later."""

    grpc = "UNAVAILABLE"
    http = 503


class BackendError(EmbedgeError, RuntimeError):
    """A lane failed, or returned numbers that aren't finite."""

    grpc = "INTERNAL"
    http = 500


class BundleError(EmbedgeError):
    """A bundle is damaged, unknown in format, or differs from its manifest."""

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
    """Return the error for the name of a gRPC status."""
    return _BY_STATUS.get(status, EmbedgeError)(message, index=index)
