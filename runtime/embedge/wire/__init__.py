"""Conversions shared by both ends of the wire: messages and plain values, errors and statuses."""

__all__ = ["MAX_MESSAGE_BYTES"]

MAX_MESSAGE_BYTES = 64 << 20
"""Default size of the largest message in either direction, in bytes. gRPC's default, 4 MiB, holds 2,700 vectors."""
