"""The client: the methods of `Embedder`, over gRPC.

`embedge.wire.methods` has the steps of each method. `Client` makes the calls and waits for them; `AsyncClient` awaits
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
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

__all__ = ["Client"]

T = TypeVar("T")


class Client(ClientBase):
    """The models of a server. Share it between threads; close it, or use it in a `with` block.

    with Client("localhost:50051") as client:
        vectors = client.embed("minilm", ["a sentence", "another"])  # (2, dim) float32
    """

    _grpc = grpc

    def embed(self, model: str, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Embed items and return their vectors.

        Args:
            model: The model's name.
            items: The items; see `Embedder.embed`. The client reads files that items name by path.
            **options: Options of `Embedder.embed`.

        Returns:
            `(n, dim)`, row i for item i, read-only if one message held them all; see `Embedder.embed`.

        Raises:
            EmbedgeError: The error of the first bad item, or of the call.
        """
        return self.run(model, ask(items, **options)).first

    def run(self, model: str, request: Request | Sequence[Item], **options: Unpack[Options]) -> Reply:
        """Embed, and return the whole reply. A request that is too large for a message is split into several calls.

        Args:
            model: The model's name.
            request: A `Request`, or a list of items.
            **options: Options of `Embedder.embed`, beside a list of items only.

        Returns:
            The outputs, and the errors of bad items by index.

        Raises:
            EmbedgeError: The whole request failed.
        """
        return self._drive(self._methods.run(model, as_request(request, options)))

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
        """Score labels for each item without training, `(n, labels)` float32; see `Embedder.classify`."""
        return self._drive(self._methods.classify(model, ask(items, **options), labels, templates, top))

    def score(
        self, model: str, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Score pairs of a query and a document, `(n,)` float32; see `Embedder.score`."""
        return self._drive(self._methods.score(model, queries, documents, ask((), **options)))

    def rerank(
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
        """Rank documents by a query, best first.

        By default this is `Embedder.rerank`: pairs are scored if the model scores pairs, and embeddings are compared
        otherwise. With `embed_model`, a second model retrieves the nearest documents first, and `model` scores those.

        Args:
            model: The model that ranks. With `embed_model`, it has to score pairs.
            query: The query.
            documents: The documents.
            top: How many documents to return; None returns all that were ranked.
            prompts: Names of the prompts that the query and the documents are embedded with.
            embed_model: The model that retrieves; None ranks all documents.
            keep: How many of the nearest documents `model` scores.
            **options: Those of `score`. The timeout covers all calls.

        Returns:
            The indices and scores of the best documents.

        Raises:
            EmbedgeError: The query or a document is bad, or a call failed.
        """
        stages = Stages(embed_model, keep, top, prompts)
        return self._drive(self._methods.rerank(model, query, documents, stages, ask((), **options)))

    def models(self) -> list[pb.ModelSummary]:
        """List the server's models: name, version and towers of each."""
        return self._drive(self._methods.models())

    def model(self, name: str) -> pb.ModelInfo:
        """Return a model's towers, spaces, limits, backend and certificate. Raises NotFound."""
        return self._drive(self._methods.model(name))

    def stats(self, name: str) -> pb.ModelStats:
        """Return a model's current load, its counters since the start, and its cost tables. Raises NotFound."""
        return self._drive(self._methods.stats(name))

    def stream(
        self, model: str, requests: Iterable[Request], *, timeout: float | None = None
    ) -> Iterator[StreamAnswer]:
        """Send requests over one stream, and yield each answer as soon as it is ready.

        gRPC takes the requests in its own thread, as fast as the server accepts them.

        Args:
            model: The model's name.
            requests: The requests; a list of items counts as one, too.
            timeout: Seconds for the whole stream.

        Yields:
            The index of a request, and its reply or error.

        Raises:
            EmbedgeError: The stream failed.
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
        """Wait until the server serves a model.

        Args:
            timeout: Seconds to wait; None waits forever.
            model: The model's name; empty waits for all models.

        Raises:
            DeadlineExceeded: The timeout passed first.
        """
        try:
            for message in self._watch(model, timeout):
                if message.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        except grpc.RpcError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the connection and cancel calls in progress."""
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
