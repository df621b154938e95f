"""Our code as a type checker can hold it against the real API.

Our code imports these libraries late and names what comes from them `Any`, since they may not be installed. A view is
a copy of a file in which the expressions that hold the library, and those of its objects that nothing else tells, are
typed by a table. `checker` finds what the table forgot.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.structure.code import ROOT

_HERE = "_here"
_HEAD = "from __future__ import annotations\nimport embedge.bundle.manifest\nimport {module} as _real\n"


@dataclass(frozen=True)
class View:
    """How to read one file.

    handles: expressions that are the library's module. kinds: expressions that are an object of the library, each with
    its class; `_Event: self.made` holds within _Event only, a class or function of ours. A class of our own has its
    full name. calls: a method that calls its
    first argument with the others, and keeps the keywords `own` to itself.
    """

    path: str
    module: str
    handles: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    calls: str = ""
    own: tuple[str, ...] = ()

    def source(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")


def write(view: View, folder: Path, source: str | None = None, number: int = 0) -> Path:
    """Write the view of a file, or of a source that stands for it; `number` makes its name one of its own."""
    text = view.source() if source is None else source
    tree = ast.fix_missing_locations(_Typed(view).visit(ast.parse(text)))
    body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    kinds = "".join(f"{_stand_in(each)}: {_full(kind)}\n" for each, kind in view.kinds.items())
    path = folder / f"{view.path.removesuffix('.py').replace('/', '_')}_{number}.py"
    head = _HEAD.format(module=view.module)
    spread = ast.fix_missing_locations(_Spread().visit(ast.Module(body, [])))
    path.write_text(head + kinds + ast.unparse(spread).replace(f"{_HERE}(", "(\n"), encoding="utf-8")
    return path


def _full(kind: str) -> str:
    return kind if kind.startswith("embedge.") else f"_real.{kind}"


def _stand_in(expression: str) -> str:
    return "_" + "".join(char if char.isalnum() else "_" for char in expression)


class _Typed(ast.NodeTransformer):
    """Puts the module and typed names in the place of the expressions that hold them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._inside: list[str] = []  # the classes and functions around a node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._entered(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._entered(node)

    def _entered(self, node: ast.ClassDef | ast.FunctionDef) -> ast.AST:
        self._inside.append(node.name)
        changed = self.generic_visit(node)
        self._inside.pop()
        return changed

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._replaced(node) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._replaced(node) if isinstance(node.ctx, ast.Load) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and node.func.attr == self._view.calls and node.args:
            keywords = [each for each in node.keywords if each.arg not in self._view.own]
            return self.visit_Call(ast.Call(node.args[0], node.args[1:], keywords))
        return self._replaced(node)

    def _replaced(self, node: ast.expr) -> ast.AST:
        text = ast.unparse(node)
        if text in self._view.handles:
            return ast.Name("_real", ast.Load())
        for known in (*(f"{each}: {text}" for each in self._inside), text):
            if known in self._view.kinds:
                return ast.Name(_stand_in(known), ast.Load())
        return self.generic_visit(node)


class _Spread(ast.NodeTransformer):
    """Begins a new line before each value that something is taken from: mypy says the same but once a line."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.value = ast.Call(ast.Name(_HERE, ast.Load()), [self.visit(node.value)], [])
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = node.value and self.visit(node.value)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Return a call with what the text shows: a text has no lines to begin."""
        shown = [self.visit(each.value) for each in node.values if isinstance(each, ast.FormattedValue)]
        return ast.Call(ast.Name("str", ast.Load()), [ast.Tuple(shown, ast.Load())], [])
