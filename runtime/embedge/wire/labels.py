"""Convert the labels of a classification to messages and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from embedge.bundle.manifest import LabelSet
from embedge.errors import InvalidInput
from embedge.scoring.labels import Labels
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.texts import name_of, whole_number

__all__ = ["labels_from_proto", "labels_head"]


def labels_head(labels: Labels, templates: Sequence[str], top: int | None) -> pb.ClassifyRequest:
    """Return the message for a classification, without its items. Raises InvalidInput."""
    message = pb.ClassifyRequest(top=whole_number("top", top))
    if isinstance(labels, str):
        message.label_set = name_of("label set", labels)
    elif isinstance(labels, LabelSet):
        own = pb.Labels(tower=labels.tower, output=labels.output, scores=labels.scores)
        message.labels.CopyFrom(_filled(own, labels.labels, labels.templates))
    else:
        message.labels.CopyFrom(_filled(pb.Labels(), labels, templates))
    return message


def _filled(message: pb.Labels, labels: Any, templates: Any) -> pb.Labels:
    try:
        message.labels.extend([name_of("a label", label) for label in labels])
        message.templates.extend([name_of("a template", template) for template in templates])
    except TypeError as error:
        raise InvalidInput("labels are the name of a label set, a LabelSet or a list; templates are a list") from error
    return message


def labels_from_proto(message: pb.ClassifyRequest) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels, and the templates of plain labels. Raises InvalidInput if the message has no labels."""
    kind = message.WhichOneof("against")
    if kind is None:
        raise InvalidInput("the request has no labels; name a label set, or send some")
    if kind == "label_set":
        return message.label_set, ("{}",)
    sent = message.labels
    labels, templates = tuple(sent.labels), tuple(sent.templates) or ("{}",)
    if not sent.tower:
        return labels, templates
    own = LabelSet(
        tower=sent.tower,
        output=sent.output,
        labels=labels,
        templates=templates,
        scores=cast("Any", sent.scores or "softmax"),
    )
    return own, templates
