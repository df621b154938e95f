"""What goes in and what comes back: plain values, the same in process and over the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from embedge.content import Content
from embedge.errors import EmbedgeError, InvalidInput
from embedge.outputs import DType, Result, Vectors

__all__ = [
    "Embedded",
    "Item",
    "ItemOptions",
    "Options",
    "Priority",
    "Reply",
    "Request",
    "ScoreOptions",
    "Timings",
    "as_request",
    "ask",
    "deadline_in",
    "raise_item_errors",
]

Item = Content | Mapping[str, Content]
"""One thing to embed: a text or another content that is the only one of its kind, or named parts (`{"text": "…"}`)."""

Embedded = NDArray[np.generic] | Any
"""The array of dense vectors, (n, dim); of other kinds the result: MultiVectors, Sparse, Gaussian, Codes or Scores."""

Priority = Literal["interactive", "bulk"]

# Times further off than this are none: clocks and waits cannot hold all that a float can.
_YEAR = 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Items to embed and how.

    tower: which tower; None where the model has one, or where the parts decide.
    outputs: names of the outputs wanted; empty means the tower's first.
    dim: cut vectors to this many numbers and normalise them again; None keeps all.
    pool: at most this many vectors an item, where an item has many: neighbours become their mean; None keeps all.
    prompt: name of a prompt of the model, put before each text; None means the model's default.
    truncate: cut texts over the model's limit instead of refusing them.
    deadline: seconds on the `time.monotonic` clock after which the work is not wanted any more.
    priority: bulk work never holds up interactive work for more than one batch.
    """

    items: Sequence[Item]
    tower: str | None = None
    outputs: tuple[str, ...] = ()
    dim: int | None = None
    dtype: DType = "float32"
    pool: int | None = None
    prompt: str | None = None
    truncate: bool = False
    deadline: float | None = None
    priority: Priority = "interactive"

    def __post_init__(self) -> None:
        """Check the options, and keep a list of the items, which may come as any iterable."""
        if isinstance(self.items, (str, bytes, Mapping)):
            raise InvalidInput("items is one item; put it into a list")
        try:
            object.__setattr__(self, "items", list(self.items))
        except TypeError as error:
            raise InvalidInput(f"items must be a list of items, not {type(self.items).__name__}") from error
        if self.priority not in get_args(Priority):
            raise InvalidInput(f"priority {self.priority!r} is unknown; choose one of {', '.join(get_args(Priority))}")
        if not all(isinstance(name, str) for name in (self.tower or "", self.prompt or "", *self.outputs)):
            raise InvalidInput("tower, prompt and outputs are names: give texts")
        object.__setattr__(self, "deadline", _moment(self.deadline))


def _moment(deadline: float | None) -> float | None:
    """Return a deadline that clocks and waits can bear: one further off than a year is none. Raises InvalidInput."""
    if deadline is None:
        return None
    _check_seconds("deadline", deadline)
    return None if deadline > time.monotonic() + _YEAR else deadline


def deadline_in(seconds: float | None) -> float | None:
    """Return the `time.monotonic` moment `seconds` from now; None, for ever, for None and for more than a year.

    Raises InvalidInput.
    """
    if seconds is None:
        return None
    _check_seconds("timeout", seconds)
    return None if seconds > _YEAR else time.monotonic() + seconds


def _check_seconds(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # only NaN is not itself
        raise InvalidInput(f"{what} {value!r} is no number of seconds")


class ItemOptions(TypedDict, total=False):
    """The keyword arguments of every `classify` that say how items are taken; each is explained at `Request`."""

    tower: str | None
    prompt: str | None
    truncate: bool
    timeout: float | None
    priority: Priority


class ScoreOptions(ItemOptions, total=False):
    """The keyword arguments of every `score`."""

    output: str | None


class Options(ScoreOptions, total=False):
    """The keyword arguments of every `embed`, in process and over the wire; each is explained at `Request`."""

    dim: int | None
    dtype: DType
    pool: int | None


def ask(
    items: Sequence[Item],
    *,
    output: str | None = None,
    timeout: float | None = None,
    tower: str | None = None,
    dim: int | None = None,
    dtype: DType = "float32",
    pool: int | None = None,
    prompt: str | None = None,
    truncate: bool = False,
    priority: Priority = "interactive",
    **unknown: NoReturn,
) -> Request:
    """Return the request that `embed(items, …)` means: one output, and a `timeout` in seconds from now.

    Raises TypeError for an option that there is not.
    """
    if unknown:
        raise TypeError(f"unknown option {next(iter(unknown))!r}; embed() has: {', '.join(Options.__annotations__)}")
    return Request(
        items=items,
        tower=tower,
        outputs=() if output is None else (output,),
        dim=dim,
        dtype=dtype,
        pool=pool,
        prompt=prompt,
        truncate=truncate,
        deadline=deadline_in(timeout),
        priority=priority,
    )


def as_request(request: Request | Sequence[Item], options: Options) -> Request:
    """Return a request as it is, or the request that a list of items and options stand for.

    Raises:
        TypeError: An option is unknown, or comes beside a `Request`, which has its own.
    """
    if not isinstance(request, Request):
        return ask(request, **options)
    if options:
        raise TypeError(f"option {next(iter(options))!r} goes with a list of items; set it in the Request")
    return request


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: preparing the items, waiting until the first batch began, and from there until the last was done."""

    prepare: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outputs of one request. Row i belongs to item i; rows named in `errors` are zero, or empty.

    tokens: (n,) int32, tokens of each item with specials and prompt, 0 for a failed item.
    """

    model: str
    version: str
    tower: str
    outputs: Mapping[str, Result]
    errors: dict[int, EmbedgeError] = field(default_factory=dict)
    tokens: NDArray[np.int32]
    timings: Timings = Timings()

    @property
    def first(self) -> Embedded:
        """The first output: the array of dense vectors, or the result of another kind. Raises as `vectors` does."""
        raise_item_errors(self.errors, len(self.tokens))
        result = next(iter(self.outputs.values()))
        return result.values if isinstance(result, Vectors) else result

    @property
    def vectors(self) -> NDArray[np.generic]:
        """The first output's array, of dense vectors. Raises the first item error, naming all failed items, if any."""
        raise_item_errors(self.errors, len(self.tokens))
        name, result = next(iter(self.outputs.items()))
        if not isinstance(result, Vectors):
            raise InvalidInput(f"output {name!r} is {result.kind}, not one vector an item; see .outputs[{name!r}]")
        return result.values


def raise_item_errors(errors: Mapping[int, EmbedgeError], count: int) -> None:
    """Raise the error of the first failed item; its message says how many of `count` failed and which."""
    if not errors:
        return
    first = min(errors)
    error = errors[first]
    if len(errors) > 1:
        named = ", ".join(str(index) for index in sorted(errors)[:10]) + (", …" if len(errors) > 10 else "")
        error.args = (f"item {first}: {error.message} ({len(errors)} of {count} items failed: {named})",)
    raise error
