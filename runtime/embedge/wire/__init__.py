"""What both ends of the wire share: messages to plain values and back, errors to statuses and back."""

__all__ = ["MAX_MESSAGE_BYTES"]

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message in either direction, where nothing else is set. gRPC's own default of 4 MiB is 2,700 vectors."""
