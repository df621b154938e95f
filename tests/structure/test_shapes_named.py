"""Every public function that takes or returns an array names its shape in its docstring, as "(n, dim)"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.structure.code import Module, modules

# "(n, dim)", "(rows,)", "(batch, ..., 3)", and "()" for a scalar array.
SHAPE = re.compile(r"\((?:[\w.…*+\-/ ]+,\s?)+(?:[\w.…*+\-/ ]+)?\)|\(\)")


def public(node: ast.AST) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield functions and methods without an underscore in their own name or in that of their classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from ((f"{child.name}.{name}", function) for name, function in public(child))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield child.name, child
        elif isinstance(child, ast.If):
            yield from public(child)


def takes_or_returns_an_array(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether an annotation of the signature names NDArray."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    annotations = [function.returns, *(each.annotation for each in named if each is not None)]
    return any("NDArray" in ast.unparse(each) for each in annotations if each is not None)


def without_shape(module: Module) -> list[str]:
    """Return the functions of a module whose docstring names no shape, with their lines."""
    return [
        f"{module.path}:{function.lineno}: {name}"
        for name, function in public(module.tree)
        if takes_or_returns_an_array(function) and not SHAPE.search(ast.get_docstring(function) or "")
    ]


@pytest.mark.parametrize("module", [each for each in modules() if not each.generated], ids=lambda module: module.name)
def test_functions_of_arrays_name_their_shapes(module: Module) -> None:
    assert not without_shape(module)


@pytest.mark.parametrize(
    ("docstring", "named"),
    [
        ("Return (n, dim) float32.", True),
        ("Take (rows,) lengths.", True),
        ("Take (batch, 3, height, width) pixels.", True),
        ("Return the vectors (see below).", False),
        ("Return the vectors, as they are.", False),
    ],
)
def test_a_shape_is_found(docstring: str, named: bool) -> None:
    assert (SHAPE.search(docstring) is not None) is named
