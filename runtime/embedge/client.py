"""The client: the methods of `Embedder`, over gRPC.

What a method does is written once, in `embedge.wire.methods`. `Client` makes the calls and waits; `AsyncClient`, in a
module of its own, awaits them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

try:
    import grpc
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the client needs gRPC; pip install 'embedge[client]'", name="grpc") from error
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedge.errors import DeadlineExceeded, EmbedgeError, Unavailable
from embedge.outputs import Scores
from embedge.request import Embedded, Item, ItemOptions, Options, Reply, Request, ScoreOptions, ask, deadline_in
from embedge.scoring.labels import Labels
from embedge.scoring.pairs import Ranking, Scored, Side
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from embedge.wire import MAX_MESSAGE_BYTES
from embedge.wire.access import bearer, trust
from embedge.wire.methods import Calls, Methods, Steps
from embedge.wire.pairs import Stages
from embedge.wire.status import error_of
from embedge.wire.stream import Feed, StreamAnswer
from embedge.wire.texts import name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IN_FLIGHT", "Client", "ClientBase"]

T = TypeVar("T")

IN_FLIGHT = 4
"""Messages of one large request on their way at a time: the server is never idle, its queue never full of us."""


class ClientBase:
    """What both clients have: the channel, and what each method does.

    address: `host:port`. token: sent with every call. timeout: seconds, where a call names none.
    tls: True for the system's authorities, or the path of a PEM file with those to trust; None: no TLS.
    cert: paths of the client's own certificate and key, PEM, where the server asks for one.
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
        """Seconds, where a call names none."""
        return self._methods.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._methods = replace(self._methods, timeout=seconds)

    @property
    def max_message_bytes(self) -> int:
        """Size of the largest message, in either direction."""
        return self._methods.max_message_bytes

    # `grpc` or `grpc.aio`: where channels come from.
    _grpc: Any

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> Any:
        options = [
            ("grpc.max_send_message_length", -1),  # measured here, with a better message
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if credentials is None:
            return self._grpc.insecure_channel(self.address, options=options)
        return self._grpc.secure_channel(self.address, credentials, options=options)

    def _options(self, deadline: float | None) -> dict[str, Any]:
        """Return the arguments of a call that say who makes it and how long it may take."""
        if self._closed:
            raise Unavailable("the client is closed; make a new one")
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded("the deadline had passed before the call was made; allow more time")
        return {"timeout": left, "metadata": self._metadata}

    def _watch(self, model: str, timeout: float | None) -> Any:
        """Return the stream of what the server's health says; it waits for a server to come up."""
        request = health_pb2.HealthCheckRequest(service=name_of("model", model))
        return self._health.Watch(request, wait_for_ready=True, **self._options(deadline_in(timeout)))

    def _error(self, error: grpc.RpcError) -> EmbedgeError:
        if self._closed:
            return Unavailable("the client was closed during the call")
        return error_of(error, address=self.address, tls=self._tls)


class Client(ClientBase):
    """A server's models. Safe to share between threads; close it, or use it in a `with` block."""

    _grpc = grpc

    def embed(self, model: str, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Return the vectors of the items, read-only where one message held them; see `Embedder.embed`.

        Files that items name by their path are read here.
        """
        return self.run(model, ask(items, **options)).first

    def run(self, model: str, request: Request) -> Reply:
        """Embed, in several calls where one would be too large; see `Embedder.run`."""
        return self._drive(self._methods.run(model, request))

    def classify(
        self,
        model: str,
        items: Sequence[Item],
        labels: Labels,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        **options: Unpack[ItemOptions],
    ) -> Scores:
        """Return the scores of labels for the items, without training; see `Embedder.classify`."""
        return self._drive(self._methods.classify(model, ask(items, **options), labels, templates, top))

    def score(
        self, model: str, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Return the score of each pair of a query and a document; see `Embedder.score`."""
        return self._drive(self._methods.score(model, queries, documents, ask((), **options)))

    def rerank(
        self,
        model: str,
        query: Side,
        candidates: Sequence[Side],
        *,
        top: int | None = 10,
        embed_model: str | None = None,
        keep: int = 100,
        prompts: tuple[str | None, str | None] = (None, None),
        **options: Unpack[ScoreOptions],
    ) -> Ranking:
        """Return the `top` candidates (None: all) by the score that `model` gives each with the query, best first.

        embed_model: embeds query and candidates first, and only the `keep` candidates that `embedge.similarity` calls
        nearest are scored; None: all are. prompts: names of those that the query and the candidates are embedded with.
        Of equal ones the earlier candidate comes first, in both stages. Options are those of `score`; the timeout is
        for all of it. Raises the error of the first bad candidate.
        """
        stages = Stages(embed_model, keep, top, prompts)
        return self._drive(self._methods.rerank(model, query, candidates, stages, ask((), **options)))

    def models(self) -> list[pb.ModelSummary]:
        """Return a line a model: name, version, towers."""
        return self._drive(self._methods.models())

    def model(self, name: str) -> pb.ModelInfo:
        """Return all about a model: towers, spaces, limits, backend, certificate. Raises NotFound."""
        return self._drive(self._methods.model(name))

    def stats(self, name: str) -> pb.ModelStats:
        """Return what a model does now, what it did since its start, and what batches cost it."""
        return self._drive(self._methods.stats(name))

    def stream(
        self, model: str, requests: Iterable[Request], *, timeout: float | None = None
    ) -> Iterator[StreamAnswer]:
        """Yield (place of the request, its reply or error), each as soon as it is ready.

        Requests are taken as fast as the server wants them, in another thread. `timeout`: seconds for the stream.
        """
        feed = Feed(model, self.max_message_bytes)
        call = self._stub.EmbedStream(feed.messages(requests), **self._options(deadline_in(timeout)))
        try:
            for message in call:
                yield feed.answer(message)
        except grpc.RpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()
        feed.check()

    def wait_ready(self, timeout: float | None = None, *, model: str = "") -> None:
        """Wait until the server says that it serves `model`, or all of its models. Raises DeadlineExceeded."""
        try:
            for message in self._watch(model, timeout):
                if message.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        except grpc.RpcError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, steps: Steps[T]) -> T:
        try:
            calls = next(steps)
            while True:
                calls = steps.send(self._perform(calls))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # typeshed: the value of StopIteration is Any
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _perform(self, calls: Calls) -> list[Any]:
        method = getattr(self._stub, calls.method)
        messages = iter(calls.messages)
        first, second = next(messages), next(messages, None)
        if second is None:
            return [method(first, **self._options(calls.deadline))]
        running: deque[Any] = deque()
        replies = []
        try:
            for message in chain((first, second), messages):
                if len(running) == IN_FLIGHT:
                    replies.append(running.popleft().result())
                running.append(method.future(message, **self._options(calls.deadline)))
            replies += [call.result() for call in running]
        finally:
            for call in running:
                call.cancel()
        return replies


def _stub(channel: Any) -> Any:
    make: Any = EmbedgeStub  # generated, without types
    return make(channel)
