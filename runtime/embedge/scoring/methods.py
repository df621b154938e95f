"""The methods of `Embedder` that build on embeddings: labels, pairs and rankings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embedge.bundle.manifest import Manifest, Tower
from embedge.outputs import Scores
from embedge.request import Item, ItemOptions, Options, Reply, Request, ScoreOptions, ask
from embedge.scoring import pairs
from embedge.scoring.classifier import Classifier
from embedge.scoring.labels import Labels, LabelStore
from embedge.scoring.pairs import Scored, Side
from embedge.scoring.ranking import (
    Prompts,
    Ranking,
    advance,
    check_one_query,
    check_top,
    rank,
    scores_pairs,
    similarities,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ScoringMethods"]


class ScoringMethods(ABC):
    """Classify, score and rerank, for a class that embeds.

    Attributes:
        towers: The loaded towers, by name.
    """

    towers: dict[str, Tower]
    _labels: LabelStore

    @property
    @abstractmethod
    def manifest(self) -> Manifest:
        """The bundle's manifest."""

    @abstractmethod
    def run(self, request: Request | Sequence[Item], **options: Unpack[Options]) -> Reply:
        """Embed and wait."""

    @abstractmethod
    def _tower(self, request: Request) -> str:
        """Return the tower that a request is for."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bundle's label sets."""
        return tuple(self.manifest.label_sets)

    def classify(
        self,
        items: Sequence[Item],
        labels: Labels,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        **options: Unpack[ItemOptions],
    ) -> Scores:
        """Score labels for each item, without training (zero-shot).

        Labels are embedded once and cached.

        Args:
            items: The items to classify.
            labels: The name of a label set of the bundle, a `LabelSet`, or a list of strings.
            templates: Sentences that each string is embedded in; `{}` stands for the label.
            top: How many labels to return for each item, best first; None returns all in order.
            **options: tower, prompt, truncate, timeout (seconds) and priority, for the items; see `Request`.

        Returns:
            Scores `(n, labels)` float32, or `(n, top)` with the indices of the labels.

        Raises:
            EmbedgeError: The error of the first bad item, or of the labels.
        """
        request = ask(items, **options)
        tower = self._tower(request)
        classifier = self._labels.ready(labels, tower, templates=templates, top=top, deadline=request.deadline)
        return classifier.result(self.run(classifier.asked(request)))

    def classifier(
        self, request: Request, labels: Labels, *, templates: Sequence[str] = ("{}",), top: int | None = None
    ) -> Future[Classifier]:
        """Prepare labels for a request's items without waiting; see `classify`."""
        return self._labels.later(labels, self._tower(request), templates=templates, top=top)

    def score(
        self, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Score pairs of a query and a document with a cross-encoder.

        Args:
            queries: One query for all documents, or a list with one query for each document.
            documents: The documents.
            **options: tower, output, prompt, truncate, timeout (seconds) and priority; see `Request`. The default
                output is the tower's first of kind scores.

        Returns:
            `(n,)` float32; of a tower with several labels, `Scores` `(n, labels)`.

        Raises:
            NotFound: No tower scores pairs.
            EmbedgeError: The error of the first bad pair.
        """
        return pairs.scored(self.run(self.to_score(ask(pairs.pairs(queries, documents), **options))))

    def to_score(self, request: Request) -> Request:
        """Return a request for pairs, items with the parts `query` and `document`, as a request to `run`."""
        name = pairs.choose_scorer(self.towers) if request.tower is None else self._tower(request)
        return pairs.to_score(request, name, self.towers[name])

    def rerank(
        self,
        query: Side,
        documents: Sequence[Side],
        *,
        top: int | None = None,
        prompts: Prompts = (None, None),
        **options: Unpack[ScoreOptions],
    ) -> Ranking:
        """Rank documents by a query, best first.

        A model with a tower that scores pairs (a cross-encoder) ranks by `score`. Any other model embeds both sides
        and ranks by `embedge.similarity`: cosine, MaxSim, or whatever fits the kind of output.

        Args:
            query: The query.
            documents: The documents.
            top: How many documents to return; None returns all.
            prompts: Names of the prompts that the query and the documents are embedded with. Unused when pairs are
                scored.
            **options: Those of `score`. Name a tower or an output to choose between scoring and embedding.

        Returns:
            The indices and scores of the best documents.

        Raises:
            EmbedgeError: The query or a document is bad.
        """
        steps = self.ranking(query, documents, top, prompts, ask((), **options))
        step = advance(steps)
        while isinstance(step, Request):
            step = advance(steps, self.run(step))
        return step

    def ranking(
        self, query: Side, documents: Sequence[Side], top: int | None, prompts: Prompts, request: Request
    ) -> Generator[Request, Reply, Ranking]:
        """Yield the requests that `rerank` makes, take their replies, and return the ranking."""
        check_top(top)
        listed = pairs.listed(documents, "documents")
        everyone = np.arange(len(listed))
        if not listed:
            return rank(np.zeros(0, np.float32), everyone, top)
        if scores_pairs({name: pairs.pair_outputs(tower) for name, tower in self.towers.items()}, request):
            check_one_query(query)
            reply = yield self.to_score(replace(request, items=pairs.pairs(query, listed)))
            return rank(pairs.scored(reply), everyone, top)
        return rank((yield from similarities(query, listed, request, prompts)), everyone, top)
