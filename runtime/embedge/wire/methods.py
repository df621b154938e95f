"""What each method of a client does: a generator that yields the calls it needs and is sent their replies."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from embedge.labels import Labels
from embedge.outputs import Scores
from embedge.request import Reply, Request, raise_item_errors
from embedge.split import join
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.convert import deadline_in, reply_from_proto, request_head
from embedge.wire.labels import labels_head
from embedge.wire.pieces import FRAME, pieces
from embedge.wire.texts import name_of

__all__ = ["Calls", "Methods", "Steps"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one method that may run at the same time. Its replies come in the order of the messages, one at least.

    Messages are made as they are taken.
    """

    method: str
    messages: Iterable[Message]
    deadline: float | None


Steps = Generator[Calls, list[Any], T]


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods. timeout: seconds, where a call names none. max_message_bytes: larger messages are not sent."""

    timeout: float | None
    max_message_bytes: int

    def run(self, model: str, request: Request) -> Steps[Reply]:
        """Embed, in several calls where one would be too large."""
        messages = pieces(request_head(model, request), request.items, self.max_message_bytes)
        replies = yield Calls("Embed", messages, self._deadline(request))
        return join([reply_from_proto(reply) for reply in replies])

    def classify(
        self, model: str, request: Request, labels: Labels, templates: Sequence[str], top: int | None
    ) -> Steps[Scores]:
        """Score labels; see `Embedder.classify`."""
        head = labels_head(labels, templates, top)
        room = self.max_message_bytes - head.ByteSize() - FRAME
        messages = (_with(head, piece) for piece in pieces(request_head(model, request), request.items, room))
        replies = yield Calls("Classify", messages, self._deadline(request))
        reply = join([reply_from_proto(reply) for reply in replies])
        raise_item_errors(reply.errors, len(reply.tokens))
        return cast("Scores", reply.outputs["scores"])

    def models(self) -> Steps[list[pb.ModelSummary]]:
        """List the models."""
        replies = yield Calls("ListModels", [pb.ListModelsRequest()], deadline_in(self.timeout))
        return list(replies[0].models)

    def model(self, name: str) -> Steps[pb.ModelInfo]:
        """Get all about a model."""
        message = pb.GetModelRequest(name=name_of("model", name))
        replies: list[pb.ModelInfo] = yield Calls("GetModel", [message], deadline_in(self.timeout))
        return replies[0]

    def stats(self, name: str) -> Steps[pb.ModelStats]:
        """Get what a model does and did."""
        message = pb.GetStatsRequest(name=name_of("model", name))
        replies: list[pb.ModelStats] = yield Calls("GetStats", [message], deadline_in(self.timeout))
        return replies[0]

    def _deadline(self, request: Request) -> float | None:
        return deadline_in(self.timeout) if request.deadline is None else request.deadline


def _with(head: pb.ClassifyRequest, piece: pb.EmbedRequest) -> pb.ClassifyRequest:
    message = pb.ClassifyRequest(request=piece)
    message.MergeFrom(head)
    return message
