"""The token check in front of every method."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from embedge.errors import Unauthenticated
from embedge.serving.handlers import CallContext, stream

__all__ = ["TokenInterceptor"]

_EXEMPT = "/grpc.health.v1.Health/"  # probes carry no token, and health isn't secret


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without `authorization: Bearer <token>`, before a byte of their message is read."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        # A stream handler: it answers at once and to every kind of call, where a unary one waits for the message.
        self._refusal = stream(_refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the call's handler, or the refusing one."""
        if handler_call_details.method.startswith(_EXEMPT) or self._admits(handler_call_details):
            return await continuation(handler_call_details)
        return self._refusal

    def _admits(self, details: grpc.HandlerCallDetails) -> bool:
        given = [str(value) for key, value in details.invocation_metadata if key == "authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), self._expected)


async def _refuse(_context: CallContext) -> None:
    raise Unauthenticated("the call carries no token, or a wrong one; send 'authorization: Bearer <token>'")
