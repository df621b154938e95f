"""What both clients share: the channel to the server, and the arguments and errors of calls."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedge.errors import DeadlineExceeded, EmbedgeError, Unavailable
from embedge.request import deadline_in
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from embedge.wire import MAX_MESSAGE_BYTES
from embedge.wire.access import bearer, trust
from embedge.wire.methods import Methods
from embedge.wire.status import error_of
from embedge.wire.texts import name_of

__all__ = ["IN_FLIGHT", "ClientBase"]

IN_FLIGHT = 4
"""Messages of one large request in flight at a time: enough to keep the server busy without filling its queue."""


class ClientBase:
    """A channel to a server, and the methods that run over it.

    Attributes:
        address: The server, `host:port`.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls: bool | str | Path | None = None,
        cert: tuple[str | Path, str | Path] | None = None,
        timeout: float | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Prepare a channel. It connects on the first call.

        Args:
            address: The server, `host:port`.
            token: The bearer token that the server asks for.
            tls: True trusts the system's certificate authorities; a path names a PEM file of authorities. None or False
                means no TLS.
            cert: Paths of the client's certificate and key, PEM, for mutual TLS.
            timeout: Seconds for a call that sets no timeout; None means no limit.
            max_message_bytes: Size of the largest message, in either direction. Larger calls are split.

        Raises:
            InvalidInput: An argument is wrong, or a file can't be read.
        """
        self.address = name_of("the address", address)
        self._methods = Methods(timeout, max_message_bytes)
        self._metadata = bearer(token)
        self._closed = False
        credentials = trust(tls, cert)
        self._tls = credentials is not None
        self._channel = self._connect(credentials)
        self._stub = _stub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    @property
    def timeout(self) -> float | None:
        """Seconds for a call that sets no timeout; None means no limit."""
        return self._methods.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._methods = replace(self._methods, timeout=seconds)

    @property
    def max_message_bytes(self) -> int:
        """Size in bytes of the largest message, in either direction."""
        return self._methods.max_message_bytes

    # The module that makes channels: `grpc` or `grpc.aio`.
    _grpc: Any

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> Any:
        options = [
            ("grpc.max_send_message_length", -1),  # `Methods` checks the size, with a better message
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if credentials is None:
            return self._grpc.insecure_channel(self.address, options=options)
        return self._grpc.secure_channel(self.address, credentials, options=options)

    def _options(self, deadline: float | None) -> dict[str, Any]:
        """Return the timeout and the metadata of a call."""
        if self._closed:
            raise Unavailable("the client is closed; make a new one")
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded("the deadline had passed before the call was made; allow more time")
        return {"timeout": left, "metadata": self._metadata}

    def _watch(self, model: str, timeout: float | None) -> Any:
        """Return the stream of the server's health states. It waits for a server to come up."""
        request = health_pb2.HealthCheckRequest(service=name_of("model", model))
        return self._health.Watch(request, wait_for_ready=True, **self._options(deadline_in(timeout)))

    def _error(self, error: grpc.RpcError) -> EmbedgeError:
        if self._closed:
            return Unavailable("the client was closed during the call")
        return error_of(error, address=self.address, tls=self._tls)


def _stub(channel: Any) -> Any:
    make: Any = EmbedgeStub  # generated, without types
    return make(channel)
