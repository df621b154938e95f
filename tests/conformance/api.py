"""What a library gives to Python: its classes, functions and values, as records that JSON can hold.

A signature is kept as Python's own text, `(self, name: str, shape: tuple) -> bool`: a person can read it in the data,
a stub can hold it, and `inspect` can compare it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

DATA = Path(__file__).parent / "data"


class Class(msgspec.Struct, omit_defaults=True):
    """One class. `members` are those of an enumeration; `settable` are those properties that can be assigned."""

    bases: list[str] = []
    methods: dict[str, list[str]] = {}  # every overload
    properties: dict[str, str] = {}  # with their types
    settable: list[str] = []
    members: dict[str, int] = {}
    values: dict[str, str] = {}  # of the class itself, with their types
    static: list[str] = []

    def names(self) -> set[str]:
        return {*self.methods, *self.properties, *self.members, *self.values}


class Module(msgspec.Struct, omit_defaults=True):
    """One module. A class within a class has a dotted name; `aliases` are second names of classes."""

    version: str
    source: str  # where this was read
    classes: dict[str, Class] = {}
    functions: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    aliases: dict[str, str] = {}

    def find(self, name: str) -> Class:
        """Return a class by its own or another name."""
        return self.classes[self.aliases.get(name, name)]

    def family(self, name: str) -> list[Class]:
        """Return a class and all that it inherits from, as far as they are of this module."""
        found = [self.find(name)]
        for base in found[0].bases:
            if base in self.classes:
                found += self.family(base)
        return found

    def has(self, dotted: str) -> bool:
        """Return whether `A`, `A.b` or `A.B.c` is there."""
        if dotted in {*self.classes, *self.functions, *self.values, *self.aliases}:
            return True
        owner, _, name = dotted.rpartition(".")
        known = owner in self.classes or owner in self.aliases
        return known and any(name in each.names() for each in self.family(owner))

    def signatures(self, dotted: str) -> list[str]:
        """Return every overload of a function or of a method, also of an inherited one; none of what is neither."""
        if dotted in self.functions:
            return self.functions[dotted]
        owner, _, name = dotted.rpartition(".")
        return next((each.methods[name] for each in self.family(owner) if name in each.methods), [])


def write(module: Module, path: Path) -> None:
    """Write a snapshot, a line a name, so that a new version is a readable difference."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(module, order="deterministic"), indent=1) + b"\n")


def read(name: str) -> Module:
    """Read a snapshot out of the data folder."""
    return msgspec.json.decode((DATA / f"{name}.json").read_bytes(), type=Module)


def signature(text: str) -> inspect.Signature:
    """Return a signature's text as Python's own record. The texts are ours or of a package that tests import anyway."""
    names: dict[str, Any] = {}
    exec(f"from __future__ import annotations\ndef f{text}: ...", names)
    return inspect.signature(names["f"])


def misfit(mine: inspect.Signature, real: list[str]) -> str:
    """Return why the real function does not take every call that mine takes; nothing if one overload does."""
    reasons = [_misfit(mine, signature(text)) for text in real] or ["the real one is not a function"]
    return "" if "" in reasons else "; or ".join(reasons)


def _misfit(mine: inspect.Signature, real: inspect.Signature) -> str:
    ours, theirs = list(mine.parameters.values()), [each for each in real.parameters.values() if each.name != "self"]
    if any(each.kind is each.VAR_POSITIONAL for each in theirs):
        return ""  # it does not tell
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in ours):
        return f"{mine} takes anything, the real one {real}"
    if len(ours) > len(theirs):
        return f"{mine} takes more than {real}"
    for own, match in zip(ours, theirs, strict=False):
        if own.name != match.name and match.kind is not match.POSITIONAL_ONLY:
            return f"{own.name!r} of {mine} is {match.name!r} in {real}"
        if own.default is not own.empty and match.default is match.empty:
            return f"{own.name!r} of {mine} may be left out, in {real} it may not"
    left = [each.name for each in theirs[len(ours) :] if each.default is each.empty]
    return f"{mine} goes without {', '.join(left)} of {real}" if left else ""
