"""Pairs to be scored between values and messages, and what a client's `rerank` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.errors import EmbedgeError, InvalidInput
from embedge.request import Request
from embedge.scoring.pairs import Side
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.parts import content_from_proto, fill_part
from embedge.wire.texts import whole_number

__all__ = ["Stages", "of_query", "placed", "score_head", "with_query"]


@dataclass(frozen=True, slots=True)
class Stages:
    """How candidates are ranked: embedded by `embed_model` with the query, the nearest `keep` scored, `top` returned.

    embed_model: None: all are scored. top: None: all that were scored. prompts: names of those that the query and the
    candidates are embedded with.
    """

    embed_model: str | None
    keep: int
    top: int | None
    prompts: tuple[str | None, str | None]

    def __post_init__(self) -> None:
        """Raise InvalidInput for numbers that are none."""
        for what, value in (("keep", self.keep), ("top", 1 if self.top is None else self.top)):
            count = whole_number(what, value)
            if count is None or count < 1:
                raise InvalidInput(f"{what} {value!r} is not possible: ask for 1 candidate or more")

    def embedding(self, scoring: Request) -> tuple[Request, Request]:
        """Return the requests that embed the query and the candidates, without items."""
        plain = Request(items=(), truncate=scoring.truncate, deadline=scoring.deadline, priority=scoring.priority)
        query, candidates = (replace(plain, prompt=prompt) for prompt in self.prompts)
        return query, candidates


def score_head(query: Side, max_bytes: int) -> pb.ScoreRequest:
    """Return the message for pairs, without its items, with the query of all of them if there is one.

    Raises InvalidInput.
    """
    message = pb.ScoreRequest()
    if query is not None:
        try:
            fill_part(message.query, query, max_bytes)
        except InvalidInput as error:
            raise of_query(error) from error
    return message


def with_query(message: pb.ScoreRequest, items: Sequence[Any]) -> Sequence[Any]:
    """Return a message's items as pairs, with the query of all of them if it has one; a damaged query fails each."""
    if not message.HasField("query"):
        return items
    try:
        query = content_from_proto(message.query)
    except InvalidInput as error:
        return [of_query(error) for _ in items]
    return [{"query": query, **item} if isinstance(item, Mapping) else item for item in items]


def of_query(error: EmbedgeError) -> EmbedgeError:
    """Return an error as one of the query of all pairs."""
    return type(error)(f"the query: {error.message}")


def placed(errors: Mapping[int, EmbedgeError], places: NDArray[np.int64]) -> dict[int, EmbedgeError]:
    """Return the errors of chosen items under the places that these have among all."""
    for row, error in errors.items():
        error.index = int(places[row])
        error.args = (f"item {error.index}: {error.message}",)
    return {int(places[row]): error for row, error in errors.items()}
