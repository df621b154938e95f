"""Holds views of our code against stubs with mypy, and tells what is wrong and what nobody could check."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.api import Module
from tests.structure.code import ROOT

_CONFIG = """\
[mypy]
python_version = 3.11
mypy_path = {path}
cache_dir = {cache}
follow_imports = silent
check_untyped_defs = True
disallow_any_expr = True
explicit_package_bases = True
namespace_packages = True

[mypy-{skipped}]
follow_imports = skip
follow_imports_for_stubs = True
"""
# Large, and nothing of theirs meets what is checked here.
_SKIPPED = "torch.*,onnx.*,transformers.*,tokenizers.*,grpc.*,typer.*,rich.*"
_ANY = 'Expression has type "Any"'
# What concerns our own values and not the library's: unknown types, and what we return or forget.
_IGNORED = re.compile(
    r"Expression (has|type contains)|Type of decorated|Any\(s\)|Explicit \"Any\"|unfollowed"
    r"|return value type|expression has type \"None\""
)
# Whom an argument is for. What our own functions take is checked with the whole project.
_TAKER = re.compile(r'^Argument .* to "(\w+)"')


@dataclass
class Report:
    """What was found. misfits: uses that the real library does not have; unknown: uses that nobody could check."""

    misfits: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def check(views: Iterable[Path], module: Module, stubs: Path, cache: Path) -> Report:
    """Check views against the stub of a module. `stubs` holds it; `cache` is mypy's own folder."""
    views = [*views]
    # Of what else mypy follows, others see that it is right.
    said = [each for each in _mypy(views, stubs, cache) if _within(each["file"], (*views, stubs))]
    report = Report()
    names = _names(module)
    untyped = set()
    for each in said:
        taker = _TAKER.search(each["message"])
        if each["message"] == _ANY:
            untyped.add((each["file"], each["line"], each["column"]))
        elif each["severity"] == "error" and not _IGNORED.search(each["message"]) and (not taker or taker[1] in names):
            report.misfits.append(f"{_place(each['file'], each['line'])}: {each['message']}")
    for view in views:
        tree = ast.parse(view.read_text(encoding="utf-8"))
        report.unknown += _unknown(tree, view, names, untyped)
        report.misfits += _strangers(tree, view, module)
    return report


def _within(file: str, places: Iterable[Path]) -> bool:
    return any(Path(file).is_relative_to(place.resolve()) for place in places)


def _mypy(views: Iterable[Path], stubs: Path, cache: Path) -> Iterator[dict[str, Any]]:
    config = cache.with_suffix(".ini")
    path = ":".join(map(str, (stubs, ROOT / "runtime", ROOT / "export")))
    config.write_text(_CONFIG.format(path=path, cache=cache, skipped=_SKIPPED.replace(",", ",mypy-")))
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", "--output=json", *map(str, views)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=cache.parent)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"mypy failed: {done.stdout[:2000]}{done.stderr}")
    for line in done.stdout.splitlines():
        each = json.loads(line)
        yield each | {"file": str((cache.parent / each["file"]).resolve())}


def _place(file: str, line: int) -> str:
    """Return the file and the statement: a view has other line numbers than its source."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    around = [
        each for each in ast.walk(tree) if isinstance(each, ast.stmt) and each.lineno <= line <= (each.end_lineno or 0)
    ]
    return f"{Path(file).stem}: `{ast.unparse(around[-1]).splitlines()[0] if around else ''}`"


def _names(module: Module) -> set[str]:
    """Return all that can be got from the module and its objects."""
    return {name for each in module.classes.values() for name in each.names()} | {*module.functions, *module.classes}


def _unknown(tree: ast.AST, view: Path, names: set[str], untyped: set[tuple[str, int, int]]) -> Iterator[str]:
    """Yield where something of the module's names is taken from a value of unknown type."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            base = node.value
            if (str(view.resolve()), base.lineno, base.col_offset) in untyped:
                yield f"{_place(str(view), node.lineno)}: what class is `{ast.unparse(base)}`?"


def _strangers(tree: ast.AST, view: Path, module: Module) -> Iterator[str]:
    """Yield public methods of classes that the library calls, which the library does not know."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(each).removeprefix("_real.") for each in node.bases]
            known = [base for base in bases if module.has(base)]
            methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            for name in methods if known else ():
                if not name.startswith("_") and not any(module.has(f"{base}.{name}") for base in known):
                    yield f"{view.stem}: {' and '.join(known)} has no method `{name}`, so nobody calls it"
