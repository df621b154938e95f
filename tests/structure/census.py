"""Measure the house: `python -m tests.structure.census [--json] [--compare CHECKOUT] [--prose DIRECTORY ...]`.

Layout and names come from the three packages, prose from their docstrings and comments, the README and docs/.
`--compare` shows another checkout beside this one, `--prose` any other package's prose, such as an installed one's.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.structure.code import ROOT, SOURCE_ROOTS, Module, modules

Arrows = dict[str, set[str]]  # from a unit to the units that it imports
LONG_FUNCTION, LONG_FILE = 50, 350

RATES = {
    "which/that/who/what": r"\b(which|that|who|whom|whose|what)\b",
    "say/tell/hear/know/want": r"\b(say|says|said|saying|tell|tells|told|telling|hear|hears|heard|hearing"
    r"|know|knows|knew|known|knowing|want|wants|wanted|wanting)\b",
    "there is/are": r"\bthere(?:'s| is| are| was| were)\b",
    "is no": r"\b(?:is|are) no\b",
    "Args/Returns/Raises": r"^\s*(?:Args|Returns|Raises|Yields|Attributes):\s*$",
}


def unit(name: str) -> str:
    """Return the top-level entry that a module belongs to."""
    return ".".join(name.split(".")[:2])


def arrows(of: list[Module]) -> Arrows:
    """Return which units each unit imports. An import of the package itself, which imports everything, names it."""
    units = {unit(module.name) for module in of}
    found: Arrows = {name: set() for name in units if "." in name}
    for module in of:
        if "." in module.name and not module.generated:
            names = {name for _, name in module.imports() if name.partition(".")[0] == module.package}
            found[unit(module.name)] |= {unit(name) if unit(name) in units else module.package for name in names}
    return {name: others - {name} for name, others in found.items()}


def mutual(of: Arrows) -> list[tuple[str, str]]:
    """Return pairs of units that import each other."""
    return sorted((a, b) for a, others in of.items() for b in others if a < b and a in of.get(b, ()))


def upward(of: Arrows) -> set[tuple[str, str]]:
    """Return the arrows that run up: to the package itself, or to a unit that leads back to the one it starts from."""
    reach = {name: _reached(name, of) for name in of}
    return {(a, b) for a, others in of.items() for b in others if b not in of or a in reach[b]}


def _reached(start: str, of: Arrows) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = of.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen


def floors(of: Arrows) -> int:
    """Return the length of the longest chain of imports, in units. Arrows that run up don't count."""
    up = upward(of)

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in of.get(name, ()) if (name, other) not in up), default=0)

    return max(map(height, of), default=0)


def names_defined_twice(of: Iterable[Module]) -> dict[str, list[str]]:
    """Return class and alias names that two modules define, underscores aside, with the modules."""
    where: dict[str, list[str]] = defaultdict(list)
    for module in of:
        if not module.generated:
            for name in dict.fromkeys(name.lstrip("_") for name in _defined(module.tree)):
                where[name].append(module.name)
    return {name: places for name, places in sorted(where.items()) if len(places) > 1}


def _defined(tree: ast.Module) -> Iterator[str]:
    """Yield names of classes, and of aliases: a capitalized name that is assigned, and no CONSTANT."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and re.fullmatch(r"_*[A-Z]\w*[a-z]\w*", target.id):
                    yield target.id


def function_sizes(module: Module) -> Iterator[int]:
    """Yield the lines of every function, without its docstring."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            words = 0 if ast.get_docstring(node) is None else (first.end_lineno or 0) - first.lineno + 1
            yield (node.end_lineno or 0) - node.lineno + 1 - words


def prose(source: str) -> Iterator[str]:
    """Yield the docstrings and comments of Python source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")


def page(text: str) -> str:
    """Return a page's prose: without code blocks, code spans and the targets of links."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`|\]\([^)]*\)", " ", text, flags=re.M | re.S)


def rates(texts: Iterable[str]) -> dict[str, float]:
    """Return the words, and how often each turn of phrase occurs in 1,000 of them."""
    text = "\n".join(texts)
    words = len(re.findall(r"[A-Za-z']+", text))
    found = {name: len(re.findall(pattern, text, re.I | re.M)) for name, pattern in RATES.items()}
    return {"words": words} | {f"{name} per 1000": round(1000 * n / max(words, 1), 2) for name, n in found.items()}


def prose_of(folder: Path) -> dict[str, float]:
    """Return the rates of all Python files under a folder."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))]
    return rates(text for source in sources for text in prose(source))


def house(checkout: Path = ROOT) -> dict[str, dict[str, float]]:
    """Return the measures of a checkout: of each package, and of the prose in all three."""
    found = {name: package(modules(name, checkout), checkout / root / name) for name, root in SOURCE_ROOTS.items()}
    sources = [module.path.read_text(encoding="utf-8") for module in modules(root=checkout) if not module.generated]
    pages = [checkout / "README.md", *sorted((checkout / "docs").rglob("*.md"))]
    texts = [page(path.read_text(encoding="utf-8")) for path in pages]
    return found | {"prose": rates([*(text for source in sources for text in prose(source)), *texts])}


def package(of: list[Module], folder: Path) -> dict[str, float]:
    """Return the measures of one package."""
    written = [module for module in of if not module.generated]
    drawn = arrows(of)
    sizes = sorted(size for module in written for size in function_sizes(module))
    lines = [len(module.path.read_text(encoding="utf-8").splitlines()) for module in written]
    entries = [
        each for each in folder.iterdir() if each.suffix == ".py" or (each.is_dir() and each.name[0] not in "._")
    ]
    return {
        "files": len(written),
        "lines": sum(lines),
        "top-level entries": len(entries),
        "floors": floors(drawn),
        "arrows": sum(map(len, drawn.values())),
        "arrows that run up": len(upward(drawn)),
        "names defined twice": len(names_defined_twice(written)),
        "function median": sizes[len(sizes) // 2],
        "function p90": sizes[len(sizes) * 9 // 10],
        "function max": sizes[-1],
        f"functions over {LONG_FUNCTION}": sum(size > LONG_FUNCTION for size in sizes),
        f"files over {LONG_FILE}": sum(size > LONG_FILE for size in lines),
    }


def table(columns: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Yield the lines of a table: a row for each measure, a column for each tree."""
    yield f"{'':44}" + "".join(f"{name[-16:]:>18}" for name in columns)
    seen = Counter((part, measure) for column in columns.values() for part in column for measure in column[part])
    for part, measure in seen:
        cells = [column.get(part, {}).get(measure, "") for column in columns.values()]
        yield f"{f'{part}: {measure}':44}" + "".join(f"{cell:>18}" for cell in cells)


def main() -> None:
    """Print the census."""
    parser = argparse.ArgumentParser(prog="python -m tests.structure.census", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--compare", type=Path, metavar="CHECKOUT", help="another checkout, beside this one")
    parser.add_argument("--prose", type=Path, nargs="*", default=[], metavar="DIRECTORY", help="other packages")
    asked = parser.parse_args()
    columns = {"here": house()}
    if asked.compare:
        columns[str(asked.compare)] = house(asked.compare.resolve())
    columns |= {folder.name: {"prose": prose_of(folder)} for folder in asked.prose}
    sys.stdout.write(json.dumps(columns, indent=2) if asked.json else "\n".join(table(columns)))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
