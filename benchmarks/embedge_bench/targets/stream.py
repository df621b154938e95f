"""Ours over one gRPC stream shared by all callers: `grpc+stream://HOST:PORT/MODEL`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from embedge.errors import EmbedgeError, Unavailable
from embedge.request import Reply, Request
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask, answer
from embedge_bench.targets.base import TargetReply, follow
from embedge_bench.targets.grpc import Grpc

__all__ = ["GrpcStream", "make"]


class GrpcStream(Grpc):
    """Requests of all callers in one stream; each caller waits for its reply."""

    kind = "embedge gRPC stream"

    def __init__(self, spec: Spec, address: str, model: str, ask: Ask) -> None:
        super().__init__(spec, address, model, ask)
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting: dict[int, Future[Reply]] = {}
        self._sent = 0
        self._lock = threading.Lock()  # held by a caller while it numbers and sends its request
        # Owned by this target: reads the replies until the stream ends.
        self._reader = threading.Thread(target=self._listen, name="stream-reader", daemon=True)
        self._reader.start()

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors."""
        return self.submit(texts, timeout).result()

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply]:
        """Return a future of the vectors."""
        request = self._ask.request(texts, timeout)
        future: Future[Reply] = Future()
        with self._lock:
            if not self._reader.is_alive():
                raise Unavailable("the stream has ended; is the server still there?")
            self._waiting[self._sent] = future
            self._sent += 1
            self._outbox.put(request)
        return follow(future, lambda: answer(future.result()))

    def close(self) -> None:
        """End the stream and close the connection."""
        self._outbox.put(None)
        self._reader.join(timeout=5.0)
        super().close()

    def _requests(self) -> Iterator[Request]:
        while (request := self._outbox.get()) is not None:
            yield request

    def _listen(self) -> None:
        fault: Exception = Unavailable("the stream has ended; is the server still there?")
        try:
            for number, reply in self._client.stream(self._model.name, self._requests()):
                future = self._waiting.pop(number)
                if isinstance(reply, EmbedgeError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except EmbedgeError as error:
            fault = error
        with self._lock:
            for future in self._waiting.values():
                future.set_exception(fault)


def make(spec: Spec) -> GrpcStream:
    """Connect. Raises Unavailable, NotFound."""
    address, model = spec.host()
    return GrpcStream(spec, address, model, spec.convert(Ask))
