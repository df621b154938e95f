"""Labels for zero-shot classification, embedded once and cached.

A label's vector is the mean of the vectors of its templates, of length 1 each, scaled to length 1 again (Radford et
al., 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020, section 3.1.4).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import cast, get_args

import numpy as np

from embedge.bundle.manifest import LabelSet, Manifest, Tower
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.bundle.records import ScoreFunction
from embedge.errors import DeadlineExceeded, EmbedgeError, InvalidInput, NotFound, Overloaded
from embedge.outputs import Vectors
from embedge.request import Reply, Request
from embedge.scoring.classifier import Classifier, ScoreMatrix, unit

__all__ = ["LabelStore", "Labels"]

Labels = str | LabelSet | Sequence[str]
"""The name of a label set of the bundle, a custom `LabelSet`, or a list of plain labels."""

_LabelKey = tuple[str, str, tuple[str, ...], tuple[str, ...]]

# Size of the cache, in bytes. The last used set stays whatever its size.
_MOST_BYTES = 256 << 20
# Approximate overhead of a cached set, and of each string in it, in bytes.
_SET_BYTES, _TEXT_BYTES = 2048, 64
_MOST_LABELS = 1 << 16
# New label sets embedded at a time, each by its own thread.
_MOST_BUILDS = 8
# Strings in one request for a label set, and in a whole set.
_TEXTS, _MOST_TEXTS = 4096, 1 << 22
# Characters of strings formatted at once, and of one label in all its templates.
_CHARACTERS = 1 << 22


class LabelStore:
    """A cache of the embedded labels of one model. Safe to use from any number of threads."""

    def __init__(self, manifest: Manifest, towers: Mapping[str, Tower], run: Callable[[Request], Reply]) -> None:
        """Start empty.

        Args:
            manifest: The model's manifest.
            towers: The loaded towers.
            run: Embeds any number of strings.
        """
        self._sets, self._spaces = manifest.label_sets, manifest.spaces
        self._towers = towers
        self._run = run
        # Held by callers and builders while they touch the cache, never while a matrix is built or awaited.
        self._lock = threading.Lock()
        self._kept: OrderedDict[_LabelKey, Future[ScoreMatrix]] = OrderedDict()
        self._bytes: dict[_LabelKey, int] = {}  # of finished matrices

    def ready(
        self,
        labels: Labels,
        tower: str,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        deadline: float | None = None,
    ) -> Classifier:
        """Embed labels for the items of a tower, and wait.

        Args:
            labels: The labels.
            tower: The tower that embeds the items.
            templates: Sentences for plain labels; `{}` stands for the label.
            top: How many labels to return for each item; None returns all.
            deadline: Time on the `time.monotonic` clock, in seconds; None waits forever.

        Raises:
            InvalidInput: The labels are wrong, or not in a space of the tower.
            NotFound: The label set, its tower or its output is unknown.
            DeadlineExceeded: The deadline passed first.
            Overloaded: Too many new label sets are being embedded.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self.later(labels, tower, templates=templates, top=top).result(left)
        except FutureTimeout as error:
            raise DeadlineExceeded("the deadline passed while the labels were embedded; allow more time") from error

    def later(
        self, labels: Labels, tower: str, *, templates: Sequence[str] = ("{}",), top: int | None = None
    ) -> Future[Classifier]:
        """Embed labels without waiting; see `ready`.

        Returns:
            A future for this caller alone, which it may cancel. Errors of embedding come with the future.

        Raises:
            EmbedgeError: The labels are wrong.
        """
        if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
            raise InvalidInput(f"top {top!r} is not possible: ask for 1 label or more")
        chosen = self._resolve(labels, tower, templates)
        space = dict(self._dense(chosen.tower))[chosen.output]
        output = next((name for name, space_ in self._dense(tower) if space_ == space), None)
        if output is None:
            raise InvalidInput(
                f"tower {tower!r} gives no vectors in the space of the labels, which tower {chosen.tower!r} embeds; "
                "choose labels of its own space"
            )
        future: Future[Classifier] = Future()

        def hand_over(matrix: Future[ScoreMatrix]) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if error := matrix.exception():
                future.set_exception(error)
                return
            ready = (chosen.labels, matrix.result(), self._spaces[space], chosen.scores, tower, output, top)
            future.set_result(Classifier(*ready))

        self._matrix(chosen).add_done_callback(hand_over)
        return future

    def _resolve(self, labels: Labels, tower: str, templates: Sequence[str]) -> LabelSet:
        """Return the label set, checked."""
        if isinstance(labels, str):
            if labels not in self._sets:
                raise NotFound(f"label set {labels!r} is unknown; there are: {', '.join(self._sets) or 'none'}")
            chosen = self._sets[labels]
        else:
            chosen = labels if isinstance(labels, LabelSet) else self._plain(tuple(labels), tower, templates)
            _check_texts(chosen)
        _check_output(chosen, self._towers)
        return chosen

    def _plain(self, labels: tuple[str, ...], tower: str, templates: Sequence[str]) -> LabelSet:
        """Return plain labels as a set for the first text tower that shares a space with `tower`.

        A space with a bias was trained with the sigmoid, because a bias doesn't change a softmax.
        """
        spaces = {space for _, space in self._dense(tower)}
        texts = [name for name, each in self._towers.items() if _of_texts(each)]
        shared = [(name, *output) for name in texts for output in self._dense(name) if output[1] in spaces]
        if not shared:
            raise InvalidInput(
                f"no tower of texts is in a space of tower {tower!r}, so labels cannot be compared with it"
            )
        name, output, space = shared[0]
        scores: ScoreFunction = "sigmoid" if self._spaces[space].bias else "softmax"
        return LabelSet(tower=name, output=output, labels=labels, templates=tuple(templates), scores=scores)

    def _dense(self, tower: str) -> list[tuple[str, str]]:
        """Return the name and space of each dense output."""
        outputs = self._towers[tower].outputs.items()
        return [(name, output.space) for name, output in outputs if isinstance(output, DenseOutput)]

    def _matrix(self, labels: LabelSet) -> Future[ScoreMatrix]:
        """Return the labels' vectors, cached or being built. The first caller starts the build."""
        key = (labels.tower, labels.output, labels.labels, labels.templates)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
            if sum(not each.done() for each in self._kept.values()) >= _MOST_BUILDS:
                raise Overloaded("many new label sets are being embedded; try again soon")
            future = self._kept[key] = Future()
        # Owned by the build and ends with it, so that a caller's deadline doesn't cancel it for others.
        threading.Thread(target=self._build, args=(key, labels, future), name="embedge-labels", daemon=True).start()
        return future

    def _build(self, key: _LabelKey, labels: LabelSet, future: Future[ScoreMatrix]) -> None:
        try:
            matrix = self._embedded(labels)
        except Exception as error:  # passed on to all waiting callers; the next call tries again
            with self._lock:
                self._kept.pop(key, None)
            future.set_exception(error)
            return
        future.set_result(matrix)
        texts = (*labels.labels, *labels.templates)
        with self._lock:
            self._bytes[key] = _SET_BYTES + matrix.nbytes + sum(_TEXT_BYTES + len(text) for text in texts)
            self._forget()

    def _forget(self) -> None:
        """Evict the least recently used sets until the others fit."""
        total = sum(self._bytes.values())
        for key in [key for key in self._kept if key in self._bytes][:-1]:
            if total <= _MOST_BYTES:
                break
            del self._kept[key]
            total -= self._bytes.pop(key)

    def _embedded(self, labels: LabelSet) -> ScoreMatrix:
        """Return `(labels, dim)`, computed in chunks of labels."""
        step = max(1, min(_TEXTS // len(labels.templates), _CHARACTERS // _longest(labels)))
        chunks = [labels.labels[start : start + step] for start in range(0, len(labels.labels), step)]
        return np.concatenate([self._chunk(chunk, labels) for chunk in chunks])

    def _chunk(self, chunk: Sequence[str], labels: LabelSet) -> ScoreMatrix:
        texts = [template.replace("{}", label) for label in chunk for template in labels.templates]
        reply = self._run(Request(items=texts, tower=labels.tower, outputs=(labels.output,), priority="bulk"))
        for index, error in reply.errors.items():
            raise _of_label(texts[index], error)
        vectors = cast("Vectors", reply.outputs[labels.output]).values
        each = unit(vectors).reshape(len(chunk), len(labels.templates), -1)
        return unit(each.mean(axis=1))


def _of_texts(tower: Tower) -> bool:
    """Return whether a tower takes one text part and nothing else."""
    return [type(part.prepare) for part in tower.parts.values()] == [TextPrepare]


def _of_label(text: str, error: EmbedgeError) -> EmbedgeError:
    """Return the error of a label's string as an error of the request."""
    return type(error)(f"the label text {text!r} cannot be embedded: {error.message}")


def _check_output(labels: LabelSet, towers: Mapping[str, Tower]) -> None:
    """Raise NotFound or InvalidInput unless a label set's tower and output exist and fit."""
    if labels.tower not in towers:
        raise NotFound(
            f"tower {labels.tower!r}, which embeds the labels, is not loaded; loaded are: {', '.join(towers)}"
        )
    outputs = towers[labels.tower].outputs
    if labels.output not in outputs:
        raise NotFound(f"output {labels.output!r} is unknown; tower {labels.tower!r} has: {', '.join(outputs)}")
    if not isinstance(outputs[labels.output], DenseOutput):
        raise InvalidInput(f"labels need an output of one vector an item, which {labels.output!r} is not")


def _check_texts(labels: LabelSet) -> None:
    """Raise InvalidInput unless the strings of a custom label set can be labels."""
    if not all(isinstance(text, str) for text in (*labels.labels, *labels.templates)):
        raise InvalidInput("labels and templates are texts")
    if not 1 <= len(labels.labels) <= _MOST_LABELS:
        raise InvalidInput(f"{len(labels.labels):,} labels are not possible: give 1 to {_MOST_LABELS:,}")
    if not labels.templates:
        raise InvalidInput("no template is given; '{}' is the label alone")
    if bad := [template for template in labels.templates if "{}" not in template]:
        raise InvalidInput(f"the template {bad[0]!r} has no place for the label: {{}}")
    if len(labels.labels) * len(labels.templates) > _MOST_TEXTS:
        raise InvalidInput(f"labels times templates are over {_MOST_TEXTS:,}; give fewer of them")
    if (longest := _longest(labels)) > _CHARACTERS:
        raise InvalidInput(f"a label in its templates has {longest:,} characters, the limit is {_CHARACTERS:,}")
    if labels.scores not in get_args(ScoreFunction):
        raise InvalidInput(f"scores {labels.scores!r} are unknown; choose softmax or sigmoid")


def _longest(labels: LabelSet) -> int:
    """Return the characters of the longest label in all its templates together."""
    longest = max(map(len, labels.labels))
    return sum(len(template) + template.count("{}") * longest for template in labels.templates)
