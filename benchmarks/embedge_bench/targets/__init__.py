"""Targets by the scheme of their address, each imported only when it is opened.

    inproc:PATH                      a bundle in this process
    serve:PATH                       a bundle behind a new server
    grpc://HOST:PORT/MODEL           our server; grpc+stream:// over one stream
    oip://HOST:PORT/MODEL            any Open Inference Protocol server (Triton, KServe, ours)
    openai+http://HOST:PORT/v1?model=NAME    any OpenAI-style embeddings endpoint; openai+https://
    ort:PATH                         the bundle's graph in plain ONNX Runtime: the limit

`NAME=ADDRESS` gives a target a short name. Options follow a `?`, as in `ort:engines/minilm?batch=8&sort=1`.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from embedge.errors import InvalidInput, NotFound
from embedge_bench.targets.base import Counters, Target, TargetReply

__all__ = ["Counters", "Spec", "Target", "TargetReply", "open_target", "parse", "schemes"]

# Scheme -> module with the function `make(spec) -> Target`.
_MODULES = {
    "inproc": "inproc",
    "serve": "serve",
    "grpc": "grpc",
    "grpc+stream": "stream",
    "oip": "oip",
    "openai+http": "openai",
    "openai+https": "openai",
    "ort": "ort",
}
_LOCAL = ("inproc", "serve", "ort")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed target address. `rest` follows the scheme: a path, or HOST:PORT/…."""

    name: str
    text: str
    scheme: str
    rest: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """The bundle's path, for targets with a bundle."""
        return self.rest if self.scheme in _LOCAL else None

    def host(self) -> tuple[str, str]:
        """Return (HOST:PORT, rest). Raises InvalidInput."""
        address, _, tail = self.rest.removeprefix("//").partition("/")
        if not re.fullmatch(r".+:\d+", address):
            raise InvalidInput(f"target {self.text!r} needs HOST:PORT, as in {self.scheme}://localhost:50051/minilm")
        return address, tail

    def convert(self, kind: type[T], options: dict[str, Any] | None = None) -> T:
        """Return the options as a record. Raises InvalidInput."""
        try:
            return msgspec.convert(self.options if options is None else options, kind, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"target {self.text!r}: {error}") from error


def schemes() -> tuple[str, ...]:
    """Return all schemes."""
    return tuple(_MODULES)


def parse(text: str) -> Spec:
    """Take an address apart. Raises InvalidInput, NotFound."""
    match = re.fullmatch(r"(?:(?P<name>[\w.,:@+ -]+)=)?(?P<scheme>[a-z+]+):(?P<rest>[^?]+)(?:\?(?P<options>.*))?", text)
    if match is None:
        raise InvalidInput(f"target {text!r} is no SCHEME:PATH or SCHEME://HOST:PORT; schemes: {', '.join(_MODULES)}")
    if match["scheme"] not in _MODULES:
        raise NotFound(
            f"target {text!r} has an unknown scheme {match['scheme']!r}; choose one of {', '.join(_MODULES)}"
        )
    options = dict(parse_qsl(match["options"] or "", keep_blank_values=True))
    address = text if match["name"] is None else text.partition("=")[2]
    return Spec(match["name"] or _short(address), address, match["scheme"], match["rest"], options)


def _short(address: str) -> str:
    """Return the default name of a target: its address, with only the end of a path."""
    scheme, _, rest = address.partition(":")
    if scheme not in _LOCAL:
        return address
    path, mark, options = rest.partition("?")
    return f"{scheme}:{PurePath(path).name}{mark}{options}"


def open_target(spec: Spec) -> Target:
    """Open the target and check that it replies. Raises EmbedgeError."""
    module = importlib.import_module(f"embedge_bench.targets.{_MODULES[spec.scheme]}")
    target: Target = module.make(spec)
    return target
