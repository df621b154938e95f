"""Requests and replies: plain values, the same in process and over the wire."""

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
"""One thing to embed: a string or another content, or a mapping of named parts such as `{"text": "…"}`."""

Embedded = NDArray[np.generic] | Any
"""The array of dense vectors, `(n, dim)`, or a result: MultiVectors, Sparse, Gaussian, Codes or Scores."""

Priority = Literal["interactive", "bulk"]

# A time further away than this counts as none, because clocks and waits can't hold every float.
_YEAR = 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Items to embed, and options.

    Attributes:
        items: The items, any iterable.
        tower: The tower's name. None chooses the only tower that takes the items.
        outputs: Names of the outputs to return. Empty returns the tower's first.
        dim: Truncate vectors to this many numbers and normalize them again. None keeps all. Use it with
            Matryoshka-trained models.
        dtype: The dtype of dense vectors: float32, float16, int8 or ubinary.
        pool: Keep at most this many vectors for each item of a multi-vector output; neighbours are averaged. None keeps
            all.
        prompt: The name of a prompt, put before each string. None takes the model's default.
        truncate: Truncate strings over the model's limit instead of refusing them.
        deadline: The time on the `time.monotonic` clock, in seconds, after which the work is dropped. None means never.
        priority: `interactive` or `bulk`. Bulk work delays interactive work by one batch at most.

    Raises:
        InvalidInput: An option has a wrong type or value.
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
        """Check the options, and make a list of the items."""
        if isinstance(self.items, (str, bytes, Mapping)):
            raise InvalidInput("items is one item; put it into a list")
        try:
            object.__setattr__(self, "items", list(self.items))
        except TypeError as error:
            raise InvalidInput(f"items must be a list of items, not {type(self.items).__name__}") from error
        if self.priority not in get_args(Priority):
            raise InvalidInput(f"priority {self.priority!r} is unknown; choose one of {', '.join(get_args(Priority))}")
        if not all(isinstance(name, str) for name in (self.tower or "", self.prompt or "", *self.outputs)):
            raise InvalidInput("tower, prompt and outputs are names: give strings")
        object.__setattr__(self, "deadline", _moment(self.deadline))


def _moment(deadline: float | None) -> float | None:
    """Return a deadline, or None for one more than a year away. Raises InvalidInput."""
    if deadline is None:
        return None
    _check_seconds("deadline", deadline)
    return None if deadline > time.monotonic() + _YEAR else deadline


def deadline_in(seconds: float | None) -> float | None:
    """Return the time on the `time.monotonic` clock `seconds` from now; None for None, and for more than a year.

    Raises:
        InvalidInput: `seconds` isn't a number.
    """
    if seconds is None:
        return None
    _check_seconds("timeout", seconds)
    return None if seconds > _YEAR else time.monotonic() + seconds


def _check_seconds(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # only NaN is not itself
        raise InvalidInput(f"{what} {value!r} is not a number of seconds")


class ItemOptions(TypedDict, total=False):
    """The keyword arguments of `classify` for the items; see `Request`."""

    tower: str | None
    prompt: str | None
    truncate: bool
    timeout: float | None
    priority: Priority


class ScoreOptions(ItemOptions, total=False):
    """The keyword arguments of `score` and `rerank`; see `Request`."""

    output: str | None


class Options(ScoreOptions, total=False):
    """The keyword arguments of `embed`, in process and over the wire; see `Request`."""

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
    """Return the request that `embed(items, …)` stands for.

    Args:
        items: The items.
        output: The output to return; None returns the tower's first.
        timeout: Seconds from now; None means no deadline.
        tower: See `Request`, as for the other options.

    Raises:
        TypeError: An option is unknown.
        InvalidInput: An option has a wrong type or value.
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
    """How long a request took, in seconds.

    Attributes:
        prepare: Time to prepare the items.
        queue: Time until the first batch started.
        compute: Time from the start of the first batch to the end of the last.
    """

    prepare: float = 0.0
    queue: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outputs of one request. Row i belongs to item i.

    Attributes:
        model: The model's name.
        version: The bundle's version.
        tower: The tower that embedded the items.
        outputs: Results by output name, in the order of the request. Rows of failed items are zero, or empty.
        errors: The errors of failed items, by index.
        tokens: `(n,)` int32, the length of each item with special tokens and prompt, 0 for a failed item.
        timings: How long the request took.
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
        """The first output: an array `(n, dim)` of dense vectors, or a result. Raises the first item error, if any."""
        raise_item_errors(self.errors, len(self.tokens))
        result = next(iter(self.outputs.values()))
        return result.values if isinstance(result, Vectors) else result

    @property
    def vectors(self) -> NDArray[np.generic]:
        """The first output as an array `(n, dim)` of dense vectors. Raises the first item error, if any."""
        raise_item_errors(self.errors, len(self.tokens))
        name, result = next(iter(self.outputs.items()))
        if not isinstance(result, Vectors):
            raise InvalidInput(f"output {name!r} is {result.kind}, not one vector an item; see .outputs[{name!r}]")
        return result.values


def raise_item_errors(errors: Mapping[int, EmbedgeError], count: int) -> None:
    """Raise the error of the first failed item, with the number and indices of all failed items in its message."""
    if not errors:
        return
    first = min(errors)
    error = errors[first]
    if len(errors) > 1:
        named = ", ".join(str(index) for index in sorted(errors)[:10]) + (", …" if len(errors) > 10 else "")
        error.args = (f"item {first}: {error.message} ({len(errors)} of {count} items failed: {named})",)
    raise error
