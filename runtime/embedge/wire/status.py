"""Convert errors to gRPC statuses and back. `embedge.errors` has the table."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from embedge.errors import EmbedgeError, InvalidInput, Overloaded, Unavailable, from_status

__all__ = ["INTERNAL_TEXT", "code_of", "error_of", "text_of", "trailing_metadata"]

INTERNAL_TEXT = "the server failed in a way it did not expect; its log holds the reason"


# Statuses are HTTP/2 headers; clients truncate them at 8 KiB, and one byte can take three.
_MAX_TEXT_BYTES = 1200


def text_of(error: EmbedgeError) -> str:
    """Return the message as valid Unicode, short enough for a header."""
    data = str(error).encode("utf-8", "replace")
    if len(data) <= _MAX_TEXT_BYTES:
        return data.decode()
    return data[:_MAX_TEXT_BYTES].decode("utf-8", "ignore") + "…"


def code_of(error: EmbedgeError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return grpc.StatusCode[error.grpc]


def trailing_metadata(error: EmbedgeError) -> tuple[tuple[str, bytes], ...]:
    """Return the details of a status: for Overloaded, the delay before a retry."""
    if not isinstance(error, Overloaded):
        return ()
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(round(error.retry_after * 1e9))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_of(error).value[0], message=text_of(error), details=[detail])
    return tuple(rpc_status.to_status(status).trailing_metadata)


def error_of(call: grpc.RpcError, *, address: str, tls: bool = True) -> EmbedgeError:
    """Return the error of a failed call, at the client.

    Args:
        call: The failed call.
        address: The server's address, for messages.
        tls: Whether the client uses TLS.
    """
    status, text = call.code(), call.details() or ""
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
        return InvalidInput(
            f"a message is over the size limit: {text}; send fewer items a call, or raise the limit "
            "(max_message_bytes of the client, --max-message-bytes of the server)"
        )
    if status is grpc.StatusCode.UNAVAILABLE and not call.trailing_metadata():
        text = _unreached(text, address, tls)
    # The message is gRPC's, not the server's.
    if status is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in text:
        text = f"the timeout passed before the server at {address} answered; allow more time, or send less at a time"
    if status is grpc.StatusCode.CANCELLED:  # by the server: a call that the client cancels raises nothing
        return Unavailable(f"the server at {address} ended the call; it may be shutting down, try again")
    error = from_status(status.name, text or f"the call ended with status {status.name}")
    if isinstance(error, Overloaded):
        error.retry_after = _retry_after(call, error.retry_after)
    return error


def _unreached(text: str, address: str, tls: bool) -> str:
    """Return gRPC's message for a failed connection with a hint; any other message as it is."""
    if "Socket closed" in text and not tls:  # a server closes it that expects TLS
        return f"the server at {address} closed the connection: {text}; it may have ended, or it wants TLS (tls=…)"
    if "onnect" not in text and "Socket closed" not in text:
        return text
    return f"cannot reach a server at {address}: {text}; check the address, and that 'embedge serve' runs there"


def _retry_after(call: grpc.RpcError, default: float) -> float:
    status = rpc_status.from_call(call)
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return float(info.retry_delay.ToNanoseconds() / 1e9)
    return default
