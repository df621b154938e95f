"""The service `embedge.v1.Embedge`: proto to plain values, the embedder, and packed bytes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc

from embedge.embedder import Embedder
from embedge.errors import Overloaded
from embedge.request import Reply, Request, deadline_in
from embedge.serving.handlers import (
    CallContext,
    check_reply_size,
    parse,
    reply_bytes,
    reply_when_done,
    stream,
    unary,
    visible_error,
)
from embedge.serving.info import model_info, model_stats, model_summary
from embedge.serving.models import Models
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.convert import fill_reply, request_from_proto
from embedge.wire.labels import labels_from_proto
from embedge.wire.pairs import with_query

__all__ = ["SERVICE", "EmbedgeServicer"]

SERVICE = "embedge.v1.Embedge"


class EmbedgeServicer:
    """Answers the calls of one server. Used on the event loop only.

    Args:
        models: The models of the server.
        stream_in_flight: Unanswered requests of one stream before reading stops.
        max_message_bytes: The largest reply; a larger one is refused with advice.
    """

    def __init__(self, models: Models, *, stream_in_flight: int, max_message_bytes: int) -> None:
        self._models = models
        self._stream_in_flight = stream_in_flight
        self._max_message_bytes = max_message_bytes

    def handler(self) -> grpc.GenericRpcHandler:
        """Return all methods, to be added to a server."""
        methods = {
            "Embed": unary(self.embed, pb.EmbedRequest),
            "Classify": unary(self.classify, pb.ClassifyRequest),
            "Score": unary(self.score, pb.ScoreRequest),
            "EmbedStream": stream(self.embed_stream),
            "ListModels": unary(self.list_models, pb.ListModelsRequest),
            "GetModel": unary(self.get_model, pb.GetModelRequest),
            "GetStats": unary(self.get_stats, pb.GetStatsRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def embed(self, message: pb.EmbedRequest, context: CallContext) -> bytes:
        """Answer one request."""
        model = self._models.get(message.model)
        return await reply_when_done(model.submit(_request(message, model, context.time_remaining())), self._packed)

    async def classify(self, message: pb.ClassifyRequest, context: CallContext) -> bytes:
        """Answer one request for scores of labels, embedding a new label set first.

        No thread waits for that: it would be missing to other calls and to the server's shutdown.
        """
        model, top = self._models.get(message.request.model), message.top if message.HasField("top") else None
        request = _request(message.request, model, context.time_remaining())
        labels, templates = labels_from_proto(message)
        ready = await asyncio.wrap_future(model.classifier(request, labels, templates=templates, top=top))
        check_reply_size(ready.size(len(request.items)), self._max_message_bytes)  # before any work is done for it
        return await reply_when_done(
            model.submit(ready.asked(request)), lambda reply: self._packed(ready.scored(reply))
        )

    async def score(self, message: pb.ScoreRequest, context: CallContext) -> bytes:
        """Answer one request for scores of pairs."""
        model = self._models.get(message.request.model)
        request = _request(message.request, model, context.time_remaining())
        asked = model.to_score(replace(request, items=with_query(message, request.items)))
        return await reply_when_done(model.submit(asked), self._packed)

    async def embed_stream(self, context: CallContext) -> None:
        """Answer each request of a stream once it is ready, reading only while slots are free."""
        slots = asyncio.Semaphore(self._stream_in_flight)
        writing = asyncio.Lock()  # owned by this stream: gRPC allows one write at a time
        answers: set[asyncio.Task[None]] = set()

        async def answer(message: pb.EmbedStreamRequest) -> None:
            try:
                reply = await self._stream_reply(message, context)
                async with writing:
                    await context.write(reply)
            finally:
                slots.release()

        def finished(task: asyncio.Task[None]) -> None:
            answers.discard(task)
            if not task.cancelled():
                task.exception()  # a write fails only where the client has left, and then the stream is cancelled too

        try:
            while True:
                await slots.acquire()
                data = await context.read()
                if data is grpc.aio.EOF:
                    break
                task = asyncio.create_task(answer(parse(pb.EmbedStreamRequest, data)))
                answers.add(task)
                task.add_done_callback(finished)
            if answers:
                await asyncio.wait(answers)
        finally:
            for task in answers:
                task.cancel()

    async def _stream_reply(self, message: pb.EmbedStreamRequest, context: CallContext) -> bytes:
        """Return the bytes of the reply, or of the error, to one message of a stream."""

        def pack(reply: Reply) -> bytes:
            answer = pb.EmbedStreamReply(id=message.id)
            fill_reply(answer.reply, reply)
            return reply_bytes(answer, self._max_message_bytes)

        limits = [context.time_remaining(), message.timeout_ms / 1e3 if message.timeout_ms else None]
        left = min((limit for limit in limits if limit is not None), default=None)
        try:
            embedder = self._models.get(message.request.model)
            return await reply_when_done(embedder.submit(_request(message.request, embedder, left)), pack)
        except Exception as error:  # the request's answer is its error; the stream goes on
            return _stream_error(message.id, error)

    def _packed(self, reply: Reply) -> bytes:
        answer = pb.EmbedReply()
        fill_reply(answer, reply)
        return reply_bytes(answer, self._max_message_bytes)

    async def list_models(self, _message: pb.ListModelsRequest, _context: CallContext) -> bytes:
        """Answer with a line a model."""
        models = [model_summary(embedder) for embedder in self._models.all()]
        return pb.ListModelsReply(models=models).SerializeToString()

    async def get_model(self, message: pb.GetModelRequest, _context: CallContext) -> bytes:
        """Answer with all about one model."""
        return model_info(self._models.get(message.name)).SerializeToString()

    async def get_stats(self, message: pb.GetStatsRequest, _context: CallContext) -> bytes:
        """Answer with the statistics of one model."""
        return model_stats(self._models.get(message.name)).SerializeToString()


def _request(message: pb.EmbedRequest, model: Embedder, left: float | None) -> Request:
    """Return the request with its deadline, refusing more items than the model can ever admit."""
    return request_from_proto(message, deadline=deadline_in(left), most=model.config.max_queue_items)


def _stream_error(number: int, error: Exception) -> bytes:
    seen = visible_error(error)
    failure = pb.StreamError(status=seen.grpc, message=str(seen))
    if isinstance(seen, Overloaded):
        failure.retry_after_ms = round(seen.retry_after * 1e3)
    return pb.EmbedStreamReply(id=number, error=failure).SerializeToString()
