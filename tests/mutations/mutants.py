"""Mutants: the code without one wait, one event, one lock, one free or one flag that others rely on."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "SOURCES", "Mutant", "find", "mutants"]

ROOT = Path(__file__).parents[2]
PACKAGE = "runtime/embedge"

# Files of the package. Where not all functions concern lanes, the ones to mutate.
SOURCES: dict[str, tuple[str, ...]] = {
    "lanes/lane.py": (),
    "lanes/in_flight.py": (),
    "lanes/pending.py": (),
    "lanes/setup.py": (),
    "lanes/pool.py": (),
    "lanes/executors.py": (),
    "lanes/watchdog.py": (),
    "scheduling/scheduler.py": (
        "take",
        "heartbeat",
        "interrupt",
        "poll",
        "push",
        "done",
        "stop",
        "wait_for_capacity",
        "drain",
        "_dequeue",
        "_notify_if_empty",
    ),
    "backends/gpu/slot.py": (),
    "backends/gpu/session.py": (),
    "backends/gpu/staging.py": (),
    "backends/gpu/cuda_graphs.py": (),
    "backends/gpu/stream.py": (),
    "backends/gpu/timing.py": (),
    "backends/onnxruntime_cuda.py": (),
    "backends/tensorrt/executable.py": (),
    "backends/tensorrt/backend.py": (),
    "cuda/__init__.py": (),
    "cuda/context.py": (),
    "cuda/owned.py": (),
    "cuda/cuda_python.py": (),
    "cuda/pycuda.py": (),
}

# Methods that wait; methods that signal another thread, the GPU or the users of a context; methods that free.
_WAITS = {"acquire", "drain", "join", "result", "wait_idle", "sleep", "wait", "wait_for"}
_TELLS = {
    "abandon",
    "attach",
    "check",
    "detach",
    "enter",
    "fail",
    "give_up",
    "heartbeat",
    "interrupt",
    "leave",
    "lend",
    "notify",
    "notify_all",
    "record",
    "release",
    "reset",
    "set",
    "set_exception",
    "set_result",
    "wake",
}
# Calls into CUDA and TensorRT, and callbacks of lanes and contexts.
_CALLS = {"_ask", "_close", "_leave", "_require", "_on_change", "_release", "_wake"}
_FREES = {"clear", "close", "exit"}
_STATEMENTS = _WAITS | _TELLS | _FREES | _CALLS
_NOTHING = "__import__('contextlib').nullcontext()"  # replaces a lock
# Fields that hold state between threads. Assignments in `__init__` are not mutated.
_FLAGS = {
    "alive",
    "broken",
    "cold",
    "given_up",
    "recorded",
    "over",
    "_closing",
    "_free",
    "_hung",
    "_last_progress",
    "_lost",
    "_timeline",
    "_open",
    "_buffer",
    "_shared",
    "_stopped",
    "_suspended",
    "_warm_up",
}


@dataclass(frozen=True)
class Mutant:
    """One piece of a file, and what is put in its place.

    file: below the package. where: the class and function. what: what is removed, in words; a number follows where a
    function has the same twice. line: counted from 1. begin, end: bytes of the file.
    """

    file: str
    where: str
    what: str
    line: int
    begin: int
    end: int
    text: str

    @property
    def name(self) -> str:
        """What it is known by, wherever it stands in its file."""
        return f"{self.file} {self.where}: {self.what}"

    def apply(self, source: bytes) -> bytes:
        """Return the file with the mutant in it."""
        return source[: self.begin] + self.text.encode() + source[self.end :]


def mutants() -> list[Mutant]:
    """Return all mutants of the checkout, file by file."""
    return [
        each for file, only in SOURCES.items() for each in find(file, (ROOT / PACKAGE / file).read_bytes(), only=only)
    ]


def find(file: str, source: bytes, only: tuple[str, ...] = ()) -> list[Mutant]:
    """Return the mutants of a file. only: the functions to look at, if not all."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen: Counter[str] = Counter()
    found = []
    for node, where, what, text in _walk(ast.parse(source), ""):
        if only and where.rpartition(".")[2] not in only:
            continue
        seen[f"{where}: {what}"] += 1
        count = seen[f"{where}: {what}"]
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        found.append(Mutant(file, where, f"{what} ({count})" if count > 1 else what, node.lineno, begin, end, text))
    return found


Piece = tuple[ast.AST, str, str, str]  # what is replaced, where it is, what that removes, what stands there then


def _walk(node: ast.AST, where: str) -> Iterator[Piece]:
    """Look at all statements, in order; those of `__init__` that set a flag make it."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        where = f"{where}.{node.name}".lstrip(".")
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) in _STATEMENTS:
        yield node, where, _words(node), "pass"
        return
    if isinstance(node, ast.Assign) and not where.endswith("__init__") and _FLAGS & set(_fields(node.targets)):
        yield node, where, _words(node), "pass"
    if isinstance(node, ast.With):
        for item in node.items:
            if _guards(item.context_expr):
                yield item.context_expr, where, f"with {_words(item.context_expr)}", _NOTHING
    if isinstance(node, ast.Call) and _called(node) in {"wait", "wait_for", "join", "wait_idle"} and _of_object(node):
        yield node, where, _words(node), "True"
    if isinstance(node, ast.Attribute) and node.attr == "RLock":
        yield node, where, "that the lock may be taken twice", "threading.Lock"
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, where)


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _of_object(call: ast.Call) -> bool:
    """Whether it is a method of something that has a name: `", ".join` waits for nothing."""
    return isinstance(call.func, ast.Attribute) and not isinstance(call.func.value, ast.Constant)


def _fields(targets: list[ast.expr]) -> Iterator[str]:
    for target in targets:
        if isinstance(target, ast.Tuple):
            yield from _fields(target.elts)
        elif isinstance(target, ast.Attribute):
            yield target.attr


def _guards(expression: ast.expr) -> bool:
    """Whether it is a lock, or what tells others of a failure."""
    if isinstance(expression, ast.Call):
        return _called(expression) == "report_failures"
    return isinstance(expression, ast.Attribute | ast.Name)


def _words(node: ast.AST) -> str:
    """Return the code on one line, short."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."
