"""Reads cuda.bindings.driver, which Cython made: signatures in Python, types and what is returned in the docstring."""

from __future__ import annotations

import ast
import re
from typing import Any

from tests.conformance.api import Class, Module

_C_INTEGERS = re.compile(
    r"\b(?:int|unsigned int|unsigned char|unsigned short|unsigned long long|size_t|long long)\s+(\w+)"
)
_RETURNED = re.compile(r"^ *(?:(\w+) : (.+)|(CUresult))$", re.MULTILINE)
_PLAIN = {"int", "float", "bytes", "bool", "str"}


def module(raw: dict[str, Any], source: str, wanted: set[str] | None = None) -> Module:
    """Return what `native.read` printed as a module's records. wanted: names to keep, with the classes they mention."""
    texts = {name: _function(doc, raw["classes"]) for name, doc in raw["functions"].items() if name.startswith("cu")}
    # The others are Python's own, imported there.
    ours = {name for name in raw["classes"] if name.startswith(("CU", "cu", "cl_"))}
    kept = ours if wanted is None else ours & _mentioned(raw, texts, wanted)
    return Module(
        raw["version"],
        source,
        {name: _class(each) for name, each in raw["classes"].items() if name in kept},
        {name: [text] for name, text in texts.items() if wanted is None or name in wanted},
        {name: kind for name, kind in raw["values"].items() if kind == "int" and (wanted is None or name in wanted)},
        {name: each for name, each in raw["aliases"].items() if each in kept},
    )


def _mentioned(raw: dict[str, Any], texts: dict[str, str], wanted: set[str]) -> set[str]:
    said = " ".join(text for name, text in texts.items() if name in wanted)
    names = wanted | set(re.findall(r"\bCU\w+", said)) | {"CUresult"}
    return names | {base for name in names & raw["classes"].keys() for base in raw["classes"][name]["bases"]}


def _class(raw: dict[str, Any]) -> Class:
    if raw["members"]:
        return Class(bases=["int"], properties={"name": "str", "value": "int"}, members=raw["members"])
    properties = dict.fromkeys(raw["properties"], "Any")
    methods = {"__init__": ["(self, *args: Any, **kwargs: Any) -> None"], "__int__": ["(self) -> int"]}
    return Class(bases=raw["bases"], methods=methods, properties=properties, settable=[*properties])


def _function(doc: str, classes: dict[str, Any]) -> str:
    """Return the signature; an enumeration's member must be that, a number a number, a handle may be what it likes."""
    first, _, told = doc.partition("\n")
    integers = set(_C_INTEGERS.findall(told.partition("\n")[0]))
    parameters = [
        f"{each.arg}: {_enumeration(each.annotation, classes) or ('int' if each.arg in integers else 'Any')}"
        for each in ast.parse(f"def {first}: ...").body[0].args.args  # type: ignore[attr-defined]
    ]
    section = told.partition("Returns\n")[2].partition("\n\n")[0]
    returned = ["CUresult" if result else _type(kind, classes) for _, kind, result in _RETURNED.findall(section)]
    return f"({', '.join(parameters)}) -> tuple[{', '.join(returned)}]"


def _enumeration(annotation: ast.expr | None, classes: dict[str, Any]) -> str:
    name = annotation.value if isinstance(annotation, ast.Constant) else ""
    return name if name in classes and classes[name]["members"] else ""


def _type(told: str, classes: dict[str, Any]) -> str:
    name = told.replace(":py:obj:`~.", "").rstrip("`")
    if name in _PLAIN:
        return name
    return name if name in classes else "Any"
