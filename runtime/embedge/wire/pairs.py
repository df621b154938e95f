"""Convert pairs to messages and back, and the options of a client's `rerank`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.errors import EmbedgeError, InvalidInput
from embedge.scoring.pairs import Side
from embedge.scoring.ranking import Prompts, check_top, of_query
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.parts import content_from_proto, fill_part

__all__ = ["Stages", "pair_towers", "placed", "score_head", "with_query"]


@dataclass(frozen=True, slots=True)
class Stages:
    """How a client reranks: retrieve with one model, then score with another.

    Attributes:
        embed_model: The model that embeds the query and all documents; None skips the first stage.
        keep: How many of the nearest documents the first stage passes on.
        top: How many documents to return; None returns all that were scored.
        prompts: Names of the prompts that the query and the documents are embedded with.
    """

    embed_model: str | None
    keep: int
    top: int | None
    prompts: Prompts

    def __post_init__(self) -> None:
        """Check the counts."""
        check_top(self.keep, "keep")
        check_top(self.top)


def pair_towers(model: pb.ModelInfo) -> dict[str, tuple[str, ...]]:
    """Return the outputs of each loaded tower that score pairs; see `embedge.scoring.ranking.scores_pairs`."""
    return {tower.name: _pair_outputs(tower) for tower in model.towers if tower.loaded}


def _pair_outputs(tower: pb.TowerInfo) -> tuple[str, ...]:
    if len(tower.parts) != 2 and not (len(tower.parts) == 1 and tower.parts[0].text.pairs):
        return ()
    return tuple(output.name for output in tower.outputs if output.kind == pb.KIND_SCORES)


def score_head(query: Side, max_bytes: int) -> pb.ScoreRequest:
    """Return the message for pairs without its items.

    Args:
        query: The query that all pairs share; None if each pair has its own.
        max_bytes: Size of the largest file that is read.

    Raises:
        InvalidInput: The query can't be sent.
    """
    message = pb.ScoreRequest()
    if query is not None:
        try:
            fill_part(message.query, query, max_bytes)
        except InvalidInput as error:
            raise of_query(error) from error
    return message


def with_query(message: pb.ScoreRequest, items: Sequence[Any]) -> Sequence[Any]:
    """Return items as pairs, with the query that the message has for all of them. A damaged query fails each pair."""
    if not message.HasField("query"):
        return items
    try:
        query = content_from_proto(message.query)
    except InvalidInput as error:
        return [of_query(error) for _ in items]
    return [{"query": query, **item} if isinstance(item, Mapping) else item for item in items]


def placed(errors: Mapping[int, EmbedgeError], places: NDArray[np.int64]) -> dict[int, EmbedgeError]:
    """Return the errors of selected items by their index among all items; `places` is (selected,) int64."""
    for row, error in errors.items():
        error.index = int(places[row])
        error.args = (f"item {error.index}: {error.message}",)
    return {int(places[row]): error for row, error in errors.items()}
