"""Reads modules made with pybind11, which writes every overload's signature into the docstring."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from typing import Any

from tests.conformance.api import Class, Module

# What a signature may name beside the module's own classes; everything else is `Any` in a stub.
TYPES = {*dir(builtins), "Any", "Sequence", "Iterable", "Iterator", "Callable", "Mapping", "Buffer"}
_UNKNOWN = "(self, *args: Any, **kwargs: Any) -> Any"
_SPELT = {"buffer": "Buffer", "capsule": "object", "handle": "object", "List": "list", "Dict": "dict", "Tuple": "tuple"}
# What a caller may give is wider than what TensorRT itself gives to methods that it calls.
_SPELT |= {"SupportsInt": "int", "SupportsIndex": "int", "SupportsFloat": "float"}
_PATHS = re.compile(r"\b(?:\w+(?:\.|::))+(?=\w)")


def module(raw: dict[str, Any], source: str) -> Module:
    """Return what `native.read` printed as a module's records."""
    known = Texts(raw["classes"])
    classes = {name: _class(each, known) for name, each in raw["classes"].items()}
    functions = {name: known.signatures(doc) for name, doc in raw["functions"].items()}
    return Module(raw["version"], source, classes, functions, raw["values"], raw["aliases"])


def _class(raw: dict[str, Any], known: Texts) -> Class:
    return Class(
        bases=raw["bases"],
        methods={name: known.signatures(doc) for name, doc in raw["methods"].items()},
        properties={name: known.returned(getter) for name, (getter, _) in raw["properties"].items()},
        settable=[name for name, (_, settable) in raw["properties"].items() if settable],
        members=raw["members"],
        values=raw["values"],
        static=raw["static"],
    )


class Texts:
    """Turns docstrings to signatures in Python, given the names of the module's classes."""

    def __init__(self, classes: Iterable[str]) -> None:
        self._classes = set(classes)

    def signatures(self, doc: str) -> list[str]:
        """Return every overload of a docstring, or one that says nothing."""
        lines = [line.strip() for line in doc.splitlines() if line.strip()]
        if len(lines) > 1 and lines[1].startswith("Overloaded function"):
            lines = [match[1] for line in lines if (match := re.match(r"\d+\. (\w+\(.*)", line))]
        else:
            lines = lines[:1]
        return [self._signature(line) for line in lines] or [_UNKNOWN]

    def returned(self, doc: str) -> str:
        """Return the type that a getter gives."""
        return self.signatures(doc)[0].rpartition(" -> ")[2]

    def _signature(self, line: str) -> str:
        text = line[line.find("(") :]
        text = re.sub(r"= <[^>]*>", "= ...", text)  # the printed form of an enumeration's member
        text = _PATHS.sub(self._last, text)
        try:
            tree = ast.parse(f"def f{text}: ...").body[0]
        except SyntaxError:
            return _UNKNOWN
        if not isinstance(tree, ast.FunctionDef):
            raise TypeError(f"not a signature: {line}")
        self._arguments(tree.args)
        tree.returns = self._type(tree.returns)
        return ast.unparse(tree).removeprefix("def f").partition(":\n")[0]

    def _last(self, match: re.Match[str]) -> str:
        """Return what stays of the path before a name: the outer class of a class within a class."""
        owner = re.split(r"\.|::", match[0])[-2]
        return f"{owner}." if owner in self._classes else ""

    def _arguments(self, arguments: ast.arguments) -> None:
        placed = [*arguments.posonlyargs, *arguments.args]
        for each in (*placed, *arguments.kwonlyargs):
            each.annotation = self._type(each.annotation) if each.arg != "self" else None
        for each, default in zip(reversed(placed), reversed(arguments.defaults), strict=False):
            if isinstance(default, ast.Constant) and default.value is None and each.annotation:
                each.annotation = ast.BinOp(each.annotation, ast.BitOr(), ast.Constant(None))
        arguments.defaults = [ast.Constant(...) for _ in arguments.defaults]

    def _type(self, node: ast.expr | None) -> ast.expr:
        if node is None:
            return ast.Name("Any")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._type(ast.parse(node.value, mode="eval").body)
        text = ast.unparse(node)
        for name in sorted(set(re.findall(r"[A-Za-z_][\w.]*", text)), key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", self._known(name), text)
        return ast.parse(text, mode="eval").body

    def _known(self, name: str) -> str:
        name = _SPELT.get(name, name)
        if name in self._classes or name in TYPES:
            return name
        # C++ calls it IParserError, Python ParserError.
        return name[1:] if name.startswith("I") and name[1:] in self._classes else "Any"
