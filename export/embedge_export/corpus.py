"""Passages for the gate: your own, or the documentation of Python's standard library."""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from embedge_export.errors import ExportError

__all__ = ["load", "standard", "thin"]

_T = TypeVar("_T")

# fmt: off
_MODULES = (
    "argparse", "ast", "asyncio/events", "base64", "bisect", "calendar", "collections/__init__",
    "concurrent/futures/_base", "configparser", "contextlib", "csv", "datetime", "decimal", "difflib",
    "email/message", "enum", "fractions", "functools", "getpass", "glob", "gzip", "hashlib", "heapq", "http/client",
    "http/cookies", "importlib/resources/__init__", "inspect", "io", "ipaddress", "json/__init__", "linecache",
    "locale", "logging/__init__", "mailbox", "multiprocessing/pool", "netrc", "numbers", "os", "pathlib", "pickle",
    "platform", "plistlib", "pprint", "queue", "random", "sched", "secrets", "selectors", "shelve", "shlex",
    "shutil", "smtplib", "socket", "socketserver", "sqlite3/dump", "ssl", "statistics", "string", "subprocess",
    "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback", "types", "typing",
    "unittest/mock", "urllib/parse", "uuid", "warnings", "wave", "weakref", "xml/sax/handler", "zipfile/__init__",
    "zoneinfo/_zoneinfo",
)
# fmt: on

# Rare in documentation: tiny texts, other scripts, emoji, code, odd whitespace, repeated words.
_ODD = (
    "a",
    "?!",
    "42",
    "Quarterly report",
    "reset password",
    "CLIMATE POLICY AND THE ENERGY MARKET",
    "  leading and trailing blanks  ",
    "tabs\tand\nnew lines\r\nin one text",
    "naïve café coöperation — “quoted” … ½",
    "Größe, Übung, Straße und Fußgängerübergänge",
    "Привет, мир! Как ваши дела сегодня?",
    "東京は日本の首都であり、世界最大の都市圏のひとつです。",
    "한국어로 쓰인 짧은 문장입니다.",
    "مرحبا بالعالم، هذا نص قصير.",
    "नमस्ते दुनिया",
    "e\u0301 as two code points, é as one",
    "🚀",
    "🎉🎉🎉 we shipped it 🎉🎉🎉",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 thumb",
    "zero\u200bwidth\u200bspaces and a \ufeffmark",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT name, COUNT(*) FROM users WHERE age > 21 GROUP BY name;",
    '<div class="note"><p>markup &amp; entities</p></div>',
    "https://example.org/a/very/long/path?with=parameters&and=more#fragment",
    "0xDEADBEEF 3.14159 1e-12 -273.15 100,000,000",
    "supercalifragilisticexpialidocious" * 4,
    "word " * 60,
    "the quick brown fox jumps over the lazy dog " * 90,
)


def load(path: str | None, count: int) -> tuple[list[str], str]:
    """Return at most `count` passages, and the corpus's name. Raises ExportError if the file has too few."""
    if path is None:
        return standard(count), "documentation of Python's standard library"
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file}: the corpus cannot be read: {error}") from error
    texts = [_passage(line, file, number) for number, line in enumerate(lines, 1) if line.strip()]
    unique = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(unique) < 16:
        raise ExportError(f"{file}: the corpus has {len(unique)} different passages; the gate needs at least 16")
    return thin(unique, count), file.name


def standard(count: int) -> list[str]:
    """Return `count` passages of many lengths, unusual ones included; the same for the same Python version."""
    return [*_ODD[:count], *thin(_documentation(), count - len(_ODD))]


def thin(texts: Sequence[_T], count: int) -> list[_T]:
    """Return at most `count` entries, evenly spread."""
    count = max(0, min(count, len(texts)))
    return [texts[index * len(texts) // count] for index in range(count)]


@cache
def _documentation() -> tuple[str, ...]:
    root = Path(sysconfig.get_path("stdlib"))
    passages = [passage for name in _MODULES for passage in _documented(root / f"{name}.py")]
    return tuple(dict.fromkeys(passage for passage in passages if passage not in _ODD))


def _documented(file: Path) -> Iterator[str]:
    """Yield each docstring of a module, and some names as short titles."""
    if not file.is_file():  # modules come and go between Python versions
        return
    tree = ast.parse(file.read_bytes())
    for number, node in enumerate(ast.walk(tree)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        doc = ast.get_docstring(node)
        if doc:
            yield doc
            if number % 5 == 0 and not isinstance(node, ast.Module):
                yield f"{file.stem}: {node.name.replace('_', ' ').strip()}"


def _passage(line: str, file: Path, number: int) -> str:
    if file.suffix != ".jsonl":
        return line
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f'{file}, line {number}: not a JSON object with a "text" key') from error
    return str(text)
