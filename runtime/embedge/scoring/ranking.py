"""Documents ranked by a query: by the scores of pairs, or by the similarity of embeddings."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from embedge.arrays import Floats
from embedge.errors import EmbedgeError, InvalidInput
from embedge.outputs import Scores
from embedge.request import Item, Reply, Request, raise_item_errors
from embedge.scoring.pairs import Scored, Side
from embedge.similarity import similarity

__all__ = [
    "Prompts",
    "Ranking",
    "advance",
    "check_one_query",
    "check_top",
    "of_query",
    "rank",
    "scores_pairs",
    "similarities",
]

T = TypeVar("T")

Prompts = tuple[str | None, str | None]
"""Names of the prompts of the query and of the documents; None means the model's default."""


class Ranking(NamedTuple):
    """The best documents, best first. Of equal scores, the earlier document comes first.

    Attributes:
        indices: `(k,)` int64, the position of each in the list of documents.
        scores: `(k,)` float32, its score; higher is better. Scores of a cross-encoder are the model's own, and those of
            embeddings are similarities (cosine, MaxSim and so on), so don't compare one kind with the other.
    """

    indices: NDArray[np.int64]
    scores: Floats


def scores_pairs(towers: Mapping[str, tuple[str, ...]], request: Request) -> bool:
    """Return whether a model scores pairs for a request; otherwise its embeddings are compared.

    Args:
        towers: For each tower, its outputs that score pairs; none for a tower that only embeds.
        request: Names a tower and an output, or leaves them open.
    """
    names = towers if request.tower is None else {request.tower} & towers.keys()
    return any(towers[name] and set(request.outputs) <= set(towers[name]) for name in names)


def similarities(
    query: Side, documents: list[Side], request: Request, prompts: Prompts
) -> Generator[Request, Reply, NDArray[Any]]:
    """Yield the requests that embed both sides, take their replies, and return the similarity of each document.

    Args:
        query: The query.
        documents: One document or more.
        request: The options of both requests.
        prompts: The prompt of each side.

    Returns:
        `(documents,)` floats, higher is nearer; see `embedge.similarity`.

    Raises:
        EmbedgeError: The query or a document is bad, or the two sides have no space in common.
    """
    if request.prompt is not None:
        raise InvalidInput("the model embeds both sides: name the prompt of each, prompts=(query's, documents')")
    embedded = []
    for items, prompt in zip(([query], documents), prompts, strict=True):
        reply = yield replace(request, items=cast("list[Item]", items), prompt=prompt)
        if items is not documents and reply.errors:
            raise of_query(reply.errors[0])
        raise_item_errors(reply.errors, len(items))
        embedded.append(next(iter(reply.outputs.values())))
    near: NDArray[Any] = similarity(*embedded)[0]
    return near


def advance(steps: Generator[Request, Reply, T], reply: Reply | None = None) -> Request | T:
    """Return the next request of `steps`, or their result.

    Args:
        steps: A generator that yields requests and takes their replies.
        reply: The reply to the last request; None starts the steps.
    """
    try:
        return next(steps) if reply is None else steps.send(reply)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # typeshed: the value of StopIteration is Any


def rank(scores: Scored | NDArray[Any], places: NDArray[np.int64], top: int | None) -> Ranking:
    """Rank documents by their scores.

    Args:
        scores: `(n,)` floats.
        places: `(n,)` ascending positions of the scored documents among all.
        top: How many to return; None returns all.

    Raises:
        InvalidInput: The tower has several labels, so a document has several scores.
    """
    if isinstance(scores, Scores):
        raise InvalidInput(f"documents are ranked by one score, and this tower gives {len(scores.labels)}; use score")
    order = np.argsort(-scores, kind="stable")[:top]
    return Ranking(places[order], scores[order].astype(np.float32, copy=False))


def check_top(top: object, what: str = "top") -> None:
    """Raise InvalidInput unless `top` is a positive whole number, or None."""
    if top is not None and (isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1):
        raise InvalidInput(f"{what} {top!r} is not possible: give a whole number, 1 or more")


def check_one_query(query: object) -> None:
    """Raise InvalidInput for a list of queries."""
    if isinstance(query, (list, tuple)):
        raise InvalidInput("documents are ranked by one query; call rerank once for each")


def of_query(error: EmbedgeError) -> EmbedgeError:
    """Return an item's error as the error of the query that all pairs share."""
    return type(error)(f"the query: {error.message}")
