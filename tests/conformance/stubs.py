"""Writes a module's records as a stub, so that a type checker can hold our code against it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.api import Class, Module

_HEAD = """\
# mypy: disable-error-code="override,overload-cannot-match,no-overload-impl"
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, overload
from typing_extensions import Buffer
import builtins as _py

__version__: str
"""
# A module may have values or functions of these names; the types of that name come from elsewhere.
_BUILTIN = re.compile(r"\b(bool|bytes|float|int|list|object|str|tuple|dict|type)\b(?! *[:(])")

# These take lists and tuples of sizes in their place: docs of Dims and Permutation.
_CONVERTED = re.compile(r"(: (?:Dims|Permutation))\b")
# Give their memory by C's buffer protocol, which leaves no name in Python: docs of IHostMemory.
_BUFFERS = ("IHostMemory",)


def write(module: Module, folder: Path, name: str) -> None:
    """Write the stub of a module with this dotted name, and an empty one for each package above it."""
    path = folder.joinpath(*name.split("."))
    path.mkdir(parents=True)
    for parent in path.parents:
        if parent == folder:
            break
        (parent / "__init__.pyi").write_text("__version__: str\nVERSION_TEXT: str\n")
    (path / "__init__.pyi").write_text("\n".join([_HEAD, *_module(module)]) + "\n")


def _module(module: Module) -> Iterator[str]:
    for name, each in module.classes.items():
        if "." not in name:
            yield from _class(module, name, each, "")
    yield from (f"{name} = {target}" for name, target in module.aliases.items() if "." not in name)
    for name, kind in module.values.items():
        known = kind in module.classes or _BUILTIN.fullmatch(kind)
        yield f"{name}: {_types(kind) if known else 'Any'}"
    for name, texts in module.functions.items():
        yield from _functions(module, name, texts, "")


def _types(text: str) -> str:
    """Return a signature or type in which built-in types are meant, whatever the module itself calls so."""
    return _CONVERTED.sub(r"\1 | Sequence[_py.int]", _BUILTIN.sub(r"_py.\1", text))


def _class(module: Module, name: str, each: Class, indent: str) -> Iterator[str]:
    own = name.rpartition(".")[2]
    yield f"{indent}class {own}({', '.join(map(_types, each.bases))}):"
    inner = indent + "    "
    yield f"{inner}..."
    for path, nested in module.classes.items():
        if path.rpartition(".")[0] == name:
            yield from _class(module, path, nested, inner)
    for path, target in module.aliases.items():
        if path.rpartition(".")[0] == name:
            yield f"{inner}{path.rpartition('.')[2]} = {target}"
    yield from (f"{inner}{member}: ClassVar[{name}]" for member in each.members)
    yield from (
        f"{inner}{value}: ClassVar[{_types(kind)}]" for value, kind in each.values.items() if value.isidentifier()
    )
    if {"__len__", "__getitem__"} <= each.methods.keys() and "__iter__" not in each.methods:
        yield f"{inner}def __iter__(self) -> Iterator[Any]: ..."  # by the old protocol, which type checkers do not know
    if name in _BUFFERS:
        yield f"{inner}def __buffer__(self, flags: _py.int, /) -> _py.memoryview: ..."
    for prop, kind in each.properties.items():
        yield from _property(module, prop, kind, prop in each.settable, inner)
    for method, texts in each.methods.items():
        yield from _functions(module, method, texts, inner, static=method in each.static)


def _property(module: Module, name: str, kind: str, settable: bool, indent: str) -> Iterator[str]:
    yield f"{indent}@property"
    yield f"{indent}def {name}(self) -> {_loose(module, kind)}: ..."
    if settable:
        yield f"{indent}@{name}.setter"
        taken = _types(f": {kind}") + (" | None" if kind in module.classes else "")
        yield f"{indent}def {name}(self, value{taken}) -> None: ..."


def _functions(module: Module, name: str, texts: list[str], indent: str, static: bool = False) -> Iterator[str]:
    for text in texts:
        if len(texts) > 1:
            yield f"{indent}@overload"
        if static:
            yield f"{indent}@staticmethod"
        head, _, returned = text.rpartition(" -> ")
        returned = "None" if name == "__init__" else returned
        yield f"{indent}def {name}{_types(head)} -> {_loose(module, returned)}: ..."


def _loose(module: Module, kind: str) -> str:
    """Return the type, or anything: an object of C++ may also be None, which no docstring says."""
    return f"{kind} | Any" if kind in module.classes and not module.classes[kind].members else _types(kind)
