"""Reads pycuda.driver, which is made with Boost.Python: every overload's signature is in the docstring.

A parameter that has no name there is called arg1, arg2 and so on: it can be given by its place only.
"""

from __future__ import annotations

import re
from typing import Any

from tests.conformance.api import Class, Module

_SIGNATURE = re.compile(r"^\w+\((.*)\) -> (\w+) :$", re.MULTILINE)
_PARAMETER = re.compile(r"(\[)?,? ?\((\w+)\)(\w+)(?:=('[^']*'|[^,\[\] ]*))?")
_PYTHON = re.compile(r"^f(\(.*\))$")
_PLAIN = {"int", "float", "str", "bool", "tuple", "list", "dict", "None"}


def module(raw: dict[str, Any], source: str) -> Module:
    """Return what `native.read` printed as a module's records."""
    classes = raw["classes"]
    return Module(
        raw["version"],
        source,
        {name: _class(each, classes) for name, each in classes.items()},
        {name: _signatures(doc, classes, bound=False) for name, doc in raw["functions"].items()},
        {name: kind for name, kind in raw["values"].items() if kind in _PLAIN},
        raw["aliases"],
    )


def _class(raw: dict[str, Any], classes: dict[str, Any]) -> Class:
    if raw["members"]:
        return Class(bases=["int"], properties={"name": "str"}, members=raw["members"])
    methods = raw["methods"].items()
    return Class(
        bases=raw["bases"],
        methods={name: _signatures(doc, classes, bound=name not in raw["static"]) for name, doc in methods},
        properties=dict.fromkeys(raw["properties"], "Any"),
        settable=[name for name, (_, settable) in raw["properties"].items() if settable],
        values=raw["values"],
        static=raw["static"],
    )


def _signatures(doc: str, classes: dict[str, Any], bound: bool) -> list[str]:
    """Return every overload. bound: the first parameter is the object itself."""
    if python := _PYTHON.match(doc):
        return [f"{re.sub(r'=[^,)]+', '=...', python[1])} -> Any"]
    found = [_signature(match, classes, bound) for match in _SIGNATURE.finditer(doc)]
    return found or [f"({'self, ' if bound else ''}*args: Any, **kwargs: Any) -> Any"]


def _signature(match: re.Match[str], classes: dict[str, Any], bound: bool) -> str:
    optional = False
    parameters, unnamed = [], 0
    for place, (bracket, kind, name, default) in enumerate(_PARAMETER.findall(match[1])):
        optional = optional or bool(bracket)
        if bound and not place:
            parameters.append("self")
            continue
        unnamed = len(parameters) + 1 if re.fullmatch(r"arg\d", name) else unnamed
        parameters.append(f"{name}: {_type(kind, classes)}{' = ...' if optional or default else ''}")
    if unnamed:
        parameters.insert(unnamed, "/")
    return f"({', '.join(parameters)}) -> {_type(match[2], classes)}"


def _type(name: str, classes: dict[str, Any]) -> str:
    return name if name in classes or name in _PLAIN else "Any"
