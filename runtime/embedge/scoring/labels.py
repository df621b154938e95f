"""Labels for zero-shot classification: embedded once, kept, and made ready for the items of a tower.

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
"""The name of a label set of the bundle, a label set of one's own, or plain labels, embedded as they are."""

_LabelKey = tuple[str, str, tuple[str, ...], tuple[str, ...]]

# Bytes of all that is kept together. The set that was used last stays whatever its size.
_MOST_BYTES = 256 << 20
# What a kept set takes beside its numbers and its texts, and each text beside its characters; about.
_SET_BYTES, _TEXT_BYTES = 2048, 64
_MOST_LABELS = 1 << 16
# New label sets embedded at a time, each by a thread of its own.
_MOST_BUILDS = 8
# Texts in one request for a label set, and in a whole one.
_TEXTS, _MOST_TEXTS = 4096, 1 << 22
# Characters of texts that are made at once; a label in all its templates has no more.
_CHARACTERS = 1 << 22


class LabelStore:
    """The label matrices of one model, the last used ones kept. Safe to use from any number of threads."""

    def __init__(self, manifest: Manifest, towers: Mapping[str, Tower], run: Callable[[Request], Reply]) -> None:
        """`towers`: those that are loaded. `run`: embeds texts, any number of them."""
        self._sets, self._spaces = manifest.label_sets, manifest.spaces
        self._towers = towers
        self._run = run
        # Owned by whoever looks up or builds, for a moment; matrices are built and waited for without it.
        self._lock = threading.Lock()
        self._kept: OrderedDict[_LabelKey, Future[ScoreMatrix]] = OrderedDict()
        self._bytes: dict[_LabelKey, int] = {}  # of those that are done

    def ready(
        self,
        labels: Labels,
        tower: str,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        deadline: float | None = None,
    ) -> Classifier:
        """Return the labels ready for items of `tower`, once they are embedded.

        templates: for plain labels. deadline: on the `time.monotonic` clock. Raises InvalidInput, NotFound,
        DeadlineExceeded, Overloaded, and what embedding raises.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self.later(labels, tower, templates=templates, top=top).result(left)
        except FutureTimeout as error:
            raise DeadlineExceeded("the deadline passed while the labels were embedded; allow more time") from error

    def later(
        self, labels: Labels, tower: str, *, templates: Sequence[str] = ("{}",), top: int | None = None
    ) -> Future[Classifier]:
        """Return what `ready` does without waiting: the caller's own future, which may be cancelled.

        Raises what is wrong with the labels at once; what embedding raises comes through the future.
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
        """Return the label set that is meant, checked."""
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
        """Return plain labels as a set of the first tower of texts alone that shares a space with `tower`.

        A space with a bias was trained with the sigmoid: a softmax is the same with and without.
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
        """Return name and space of each output of one vector an item."""
        outputs = self._towers[tower].outputs.items()
        return [(name, output.space) for name, output in outputs if isinstance(output, DenseOutput)]

    def _matrix(self, labels: LabelSet) -> Future[ScoreMatrix]:
        """Return the labels' vectors, kept or under way; whoever comes first has them built."""
        key = (labels.tower, labels.output, labels.labels, labels.templates)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
            if sum(not each.done() for each in self._kept.values()) >= _MOST_BUILDS:
                raise Overloaded("many new label sets are being embedded; try again soon")
            future = self._kept[key] = Future()
        # Owned by the build, and ends with it: no caller's deadline ends what others wait for.
        threading.Thread(target=self._build, args=(key, labels, future), name="embedge-labels", daemon=True).start()
        return future

    def _build(self, key: _LabelKey, labels: LabelSet, future: Future[ScoreMatrix]) -> None:
        try:
            matrix = self._embedded(labels)
        except Exception as error:  # whoever waits must hear of it; the next call tries again
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
        """Let go of the sets that were not used for longest, until the others fit."""
        total = sum(self._bytes.values())
        for key in [key for key in self._kept if key in self._bytes][:-1]:
            if total <= _MOST_BYTES:
                break
            del self._kept[key]
            total -= self._bytes.pop(key)

    def _embedded(self, labels: LabelSet) -> ScoreMatrix:
        """Return (labels, dim), a chunk of the labels at a time."""
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
    """Return whether a tower takes one text and nothing else."""
    return [type(part.prepare) for part in tower.parts.values()] == [TextPrepare]


def _of_label(text: str, error: EmbedgeError) -> EmbedgeError:
    """Return an item's error as one of the request: the label is at fault, and no item."""
    return type(error)(f"the label text {text!r} cannot be embedded: {error.message}")


def _check_output(labels: LabelSet, towers: Mapping[str, Tower]) -> None:
    """Raise NotFound or InvalidInput unless the tower and the output of a label set are there."""
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
    """Raise InvalidInput unless the texts of a caller's own label set can be labels."""
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
    """Return how many characters the longest label has in all its templates together."""
    longest = max(map(len, labels.labels))
    return sum(len(template) + template.count("{}") * longest for template in labels.templates)
