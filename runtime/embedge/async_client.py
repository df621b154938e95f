"""The client for asyncio; see `embedge.client`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

try:
    import grpc
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the client needs gRPC; pip install 'embedge[client]'", name="grpc") from error
from grpc_health.v1 import health_pb2

from embedge.outputs import Scores
from embedge.request import (
    Embedded,
    Item,
    ItemOptions,
    Options,
    Reply,
    Request,
    ScoreOptions,
    as_request,
    ask,
    deadline_in,
)
from embedge.scoring.labels import Labels
from embedge.scoring.pairs import Scored, Side
from embedge.scoring.ranking import Prompts, Ranking
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.channel import IN_FLIGHT, ClientBase
from embedge.wire.methods import Calls, Steps
from embedge.wire.pairs import Stages
from embedge.wire.stream import Feed, StreamAnswer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(ClientBase):
    """The methods of `Client` for asyncio, awaited. Create it inside the event loop that uses it."""

    _grpc = grpc.aio

    async def embed(self, model: str, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Embed items and return their vectors, `(n, dim)`; see `Client.embed`."""
        return (await self.run(model, ask(items, **options))).first

    async def run(self, model: str, request: Request | Sequence[Item], **options: Unpack[Options]) -> Reply:
        """Embed; see `Client.run`."""
        return await self._drive(self._methods.run(model, as_request(request, options)))

    async def classify(
        self,
        model: str,
        items: Sequence[Item],
        labels: Labels,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        **options: Unpack[ItemOptions],
    ) -> Scores:
        """Score labels for each item, `(n, labels)`; see `Client.classify`."""
        return await self._drive(self._methods.classify(model, ask(items, **options), labels, templates, top))

    async def score(
        self, model: str, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Score pairs, `(n,)` float32; see `Client.score`."""
        return await self._drive(self._methods.score(model, queries, documents, ask((), **options)))

    async def rerank(
        self,
        model: str,
        query: Side,
        documents: Sequence[Side],
        *,
        top: int | None = None,
        prompts: Prompts = (None, None),
        embed_model: str | None = None,
        keep: int = 100,
        **options: Unpack[ScoreOptions],
    ) -> Ranking:
        """Rank documents by a query, best first; see `Client.rerank`."""
        stages = Stages(embed_model, keep, top, prompts)
        return await self._drive(self._methods.rerank(model, query, documents, stages, ask((), **options)))

    async def models(self) -> list[pb.ModelSummary]:
        """List the server's models; see `Client.models`."""
        return await self._drive(self._methods.models())

    async def model(self, name: str) -> pb.ModelInfo:
        """Return a model's towers, spaces, limits, backend and certificate; see `Client.model`."""
        return await self._drive(self._methods.model(name))

    async def stats(self, name: str) -> pb.ModelStats:
        """Return a model's counters and cost tables; see `Client.stats`."""
        return await self._drive(self._methods.stats(name))

    async def stream(
        self, model: str, requests: Iterable[Request] | AsyncIterable[Request], *, timeout: float | None = None
    ) -> AsyncIterator[StreamAnswer]:
        """Yield the index of each request with its reply or error; see `Client.stream`."""
        feed = Feed(model, self.max_message_bytes)
        messages = feed.async_messages(requests) if isinstance(requests, AsyncIterable) else feed.messages(requests)
        call = self._stub.EmbedStream(messages, **self._options(deadline_in(timeout)))
        try:
            async for message in call:
                yield feed.answer(message)
        except grpc.RpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()
        feed.check()

    async def wait_ready(self, timeout: float | None = None, *, model: str = "") -> None:
        """Wait until the server is ready; see `Client.wait_ready`."""
        try:
            async for message in self._watch(model, timeout):
                if message.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        except grpc.RpcError as error:
            raise self._error(error) from error

    async def close(self) -> None:
        """Close the connection and cancel calls in progress."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drive(self, steps: Steps[T]) -> T:
        try:
            calls = next(steps)
            while True:
                calls = steps.send(await self._perform(calls))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # typeshed: the value of StopIteration is Any
        except grpc.RpcError as error:
            raise self._error(error) from error

    async def _perform(self, calls: Calls) -> list[Any]:
        method = getattr(self._stub, calls.method)
        running: deque[Any] = deque()
        replies = []
        try:
            for message in calls.messages:
                if len(running) == IN_FLIGHT:
                    replies.append(await running.popleft())
                running.append(method(message, **self._options(calls.deadline)))
            replies += [await call for call in running]
        finally:
            for call in running:
                call.cancel()
        return replies
