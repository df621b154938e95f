"""The in-process API for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedge.cancel import CancelToken
from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge.errors import DeadlineExceeded, InvalidInput
from embedge.outputs import Scores
from embedge.request import Embedded, Item, ItemOptions, Options, Reply, Request, ScoreOptions, as_request, ask
from embedge.scoring import pairs
from embedge.scoring.labels import Labels
from embedge.scoring.pairs import Scored, Side
from embedge.scoring.ranking import Prompts, Ranking, advance

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncEmbedder"]

T = TypeVar("T")


class AsyncEmbedder:
    """A model for asyncio: the methods of `Embedder`, awaited.

    Attributes:
        embedder: The model, open and warm.
    """

    def __init__(self, embedder: Embedder) -> None:
        """Wrap an open `Embedder`. To open a path, use `await AsyncEmbedder.open(path)`."""
        if not isinstance(embedder, Embedder):
            raise InvalidInput(
                f"an open Embedder is needed, not {type(embedder).__name__}; "
                "open a path with: await AsyncEmbedder.open(path)"
            )
        self.embedder = embedder

    @classmethod
    async def open(cls, path: str | Path, *, config: RuntimeConfig | None = None) -> AsyncEmbedder:
        """Open the bundle at `path` in a worker thread; see `Embedder.open`.

            async with await AsyncEmbedder.open("engines/minilm") as embedder:
                ...

        Cancelling the task cancels the opening.
        """
        cancel = CancelToken()
        try:
            return cls(await asyncio.to_thread(Embedder.open, path, config=config, cancel=cancel))
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    async def embed(self, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Embed items and return their vectors, `(n, dim)`; see `Embedder.embed`."""
        return (await self.run(ask(items, **options))).first

    async def run(self, request: Request | Sequence[Item], **options: Unpack[Options]) -> Reply:
        """Embed; see `Embedder.run`.

        The request isn't split, so it has to fit into the queue. Cancelling the task drops what is queued.
        """
        request = as_request(request, options)
        return await _in_time(self.embedder.submit(request), request.deadline, "items were computed")

    async def classify(
        self,
        items: Sequence[Item],
        labels: Labels,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        **options: Unpack[ItemOptions],
    ) -> Scores:
        """Score labels for each item, `(n, labels)`; see `Embedder.classify`."""
        request = ask(items, **options)
        ready = self.embedder.classifier(request, labels, templates=templates, top=top)
        classifier = await _in_time(ready, request.deadline, "labels were embedded")
        reply = await self.run(classifier.asked(request))
        return await asyncio.to_thread(classifier.result, reply)

    async def score(
        self, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Score pairs, `(n,)` float32; see `Embedder.score`."""
        request = ask(pairs.pairs(queries, documents), **options)
        return pairs.scored(await self.run(self.embedder.to_score(request)))

    async def rerank(
        self,
        query: Side,
        documents: Sequence[Side],
        *,
        top: int | None = None,
        prompts: Prompts = (None, None),
        **options: Unpack[ScoreOptions],
    ) -> Ranking:
        """Rank documents by a query, best first; see `Embedder.rerank`."""
        steps = self.embedder.ranking(query, documents, top, prompts, ask((), **options))
        step = advance(steps)
        while isinstance(step, Request):
            step = await asyncio.to_thread(advance, steps, await self.run(step))
        return step

    async def close(self) -> None:
        """Stop the lanes and free everything."""
        await asyncio.to_thread(self.embedder.close)

    async def __aenter__(self) -> AsyncEmbedder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _in_time(future: Future[T], deadline: float | None, what: str) -> T:
    """Await a future, cancelled with the task. Raises DeadlineExceeded when the deadline passes."""
    left = None if deadline is None else deadline - time.monotonic()
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), left)
    except asyncio.TimeoutError as error:
        raise DeadlineExceeded(f"the deadline passed while the {what}; allow more time") from error
