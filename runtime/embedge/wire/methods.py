"""The steps of each client method: generators that yield calls and take their replies."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from embedge.outputs import Scores
from embedge.request import Reply, Request, deadline_in, raise_item_errors
from embedge.scoring.labels import Labels
from embedge.scoring.pairs import Scored, Side, listed, pairs, scored
from embedge.scoring.ranking import Prompts, Ranking, advance, check_one_query, rank, scores_pairs, similarities
from embedge.split import join
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.convert import reply_from_proto, request_head
from embedge.wire.labels import labels_head
from embedge.wire.messages import FRAME, several
from embedge.wire.pairs import Stages, pair_towers, placed, score_head
from embedge.wire.texts import name_of

__all__ = ["Calls", "Methods", "Steps"]

T = TypeVar("T")
_ScoringRequest = TypeVar("_ScoringRequest", pb.ClassifyRequest, pb.ScoreRequest)


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one RPC that may run at the same time.

    Attributes:
        method: The RPC's name.
        messages: At least one message, made as it is taken. Replies have the same order.
        deadline: The deadline of all calls, on the `time.monotonic` clock; None means never.
    """

    method: str
    messages: Iterable[Message]
    deadline: float | None


Steps = Generator[Calls, list[Any], T]


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods of a client.

    Attributes:
        timeout: Seconds for a call that sets no timeout; None means no limit.
        max_message_bytes: Size of the largest message that is sent.
    """

    timeout: float | None
    max_message_bytes: int

    def run(self, model: str, request: Request) -> Steps[Reply]:
        """Embed, in several calls if one would be too large."""
        messages = several(request_head(model, request), request.items, self.max_message_bytes)
        replies = yield Calls("Embed", messages, self._deadline(request))
        return join([reply_from_proto(reply) for reply in replies])

    def classify(
        self, model: str, request: Request, labels: Labels, templates: Sequence[str], top: int | None
    ) -> Steps[Scores]:
        """Score labels for each item; see `Embedder.classify`."""
        head = labels_head(labels, templates, top)
        room = self.max_message_bytes - head.ByteSize() - FRAME
        messages = (_with(head, each) for each in several(request_head(model, request), request.items, room))
        replies = yield Calls("Classify", messages, self._deadline(request))
        reply = join([reply_from_proto(reply) for reply in replies])
        raise_item_errors(reply.errors, len(reply.tokens))
        return cast("Scores", reply.outputs["scores"])

    def score(
        self, model: str, queries: Side | Sequence[Side], documents: Sequence[Side], request: Request
    ) -> Steps[Scored]:
        """Score pairs; see `Embedder.score`. `request` holds the options."""
        return scored((yield from self._score(model, queries, documents, request)))

    def rerank(
        self, model: str, query: Side, documents: Sequence[Side], stages: Stages, request: Request
    ) -> Steps[Ranking]:
        """Rank documents by a query; see `Client.rerank`. `request` holds the options."""
        request = replace(request, deadline=self._deadline(request))  # one for all calls
        listing = listed(documents, "documents")
        kept = np.arange(len(listing))
        if not listing:
            return rank(np.zeros(0, np.float32), kept, stages.top)
        if stages.embed_model is None and not (yield from self._scores_pairs(model, request)):
            near = yield from self._similarities(model, query, listing, request, stages.prompts)
            return rank(near, kept, stages.top)
        check_one_query(query)
        if stages.embed_model is not None and stages.keep < len(listing):
            plain = Request(items=(), truncate=request.truncate, deadline=request.deadline, priority=request.priority)
            near = yield from self._similarities(stages.embed_model, query, listing, plain, stages.prompts)
            kept = np.sort(np.argsort(-near, kind="stable")[: stages.keep])
        reply = yield from self._score(model, query, [listing[place] for place in kept], request)
        return rank(scored(replace(reply, errors=placed(reply.errors, kept))), kept, stages.top)

    def _scores_pairs(self, model: str, request: Request) -> Steps[bool]:
        """Return whether the model scores pairs, or embeds both sides instead."""
        info = yield Calls("GetModel", [pb.GetModelRequest(name=name_of("model", model))], request.deadline)
        return scores_pairs(pair_towers(info[0]), request)

    def _similarities(
        self, model: str, query: Side, documents: list[Side], request: Request, prompts: Prompts
    ) -> Steps[NDArray[Any]]:
        """Return `(documents,)` similarities with the query, both sides embedded by `model`."""
        steps = similarities(query, documents, request, prompts)
        step = advance(steps)
        while isinstance(step, Request):
            step = advance(steps, (yield from self.run(model, step)))
        return step

    def _score(
        self, model: str, queries: Side | Sequence[Side], documents: Sequence[Side], request: Request
    ) -> Steps[Reply]:
        """Score pairs, in several calls if one would be too large. A query of all pairs is sent once for each call."""
        shared = not isinstance(queries, (list, tuple))
        asked = replace(request, items=pairs(None if shared else queries, documents))
        head = score_head(cast("Side", queries) if shared else None, self.max_message_bytes)
        room = self.max_message_bytes - head.ByteSize() - FRAME
        messages = (_with(head, each) for each in several(request_head(model, asked), asked.items, room))
        replies = yield Calls("Score", messages, self._deadline(request))
        return join([reply_from_proto(reply) for reply in replies])

    def models(self) -> Steps[list[pb.ModelSummary]]:
        """List the models."""
        replies = yield Calls("ListModels", [pb.ListModelsRequest()], deadline_in(self.timeout))
        return list(replies[0].models)

    def model(self, name: str) -> Steps[pb.ModelInfo]:
        """Get a model's description."""
        message = pb.GetModelRequest(name=name_of("model", name))
        replies: list[pb.ModelInfo] = yield Calls("GetModel", [message], deadline_in(self.timeout))
        return replies[0]

    def stats(self, name: str) -> Steps[pb.ModelStats]:
        """Get a model's counters and cost tables."""
        message = pb.GetStatsRequest(name=name_of("model", name))
        replies: list[pb.ModelStats] = yield Calls("GetStats", [message], deadline_in(self.timeout))
        return replies[0]

    def _deadline(self, request: Request) -> float | None:
        return deadline_in(self.timeout) if request.deadline is None else request.deadline


def _with(head: _ScoringRequest, request: pb.EmbedRequest) -> _ScoringRequest:
    message = type(head)(request=request)
    message.MergeFrom(head)
    return message
