"""Generate the pages about settings and commands from the code: `make reference`.

`configuration.md` comes from the records of the settings and of the recipe, `cli.md` from the commands. Both are
committed; a test compares them with the code.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec.inspect as types
import typer

from embedge import cli
from embedge.config import RuntimeConfig
from embedge.serving.config import ServeConfig
from embedge_export.recipe import Gate, Recipe, SpaceRecipe, StepRecipe, TowerRecipe

DOCS = Path(__file__).resolve().parent

CONFIGURATION = """\
# Configuration reference

Every key of the server's TOML file and of a recipe, with its type and default. Unknown keys are errors. Leave out keys
with the default “—” to get what the description calls None.

[Serving](serving.md#configuration) shows a complete file, [Tuning](tuning.md) explains the trade-offs, and
[Export](export.md) explains recipes. This page is generated from the code.
"""

# Record, heading, lead.
RECORDS: list[tuple[type[Any], str, str]] = [
    (ServeConfig, "Server", "Top level of the file given to `embedge serve --config`. Most keys are options, too."),
    (
        RuntimeConfig,
        "Runtime",
        "Table `[runtime]` of the same file. In Python: the fields of `RuntimeConfig`, the `config` argument of "
        "`Embedder.open`. They apply to each model separately.",
    ),
    (Recipe, "Recipe", "Top level of the file given to `embedge export --recipe`."),
    (TowerRecipe, "Recipe: towers", "Tables `[tower.NAME]` of a recipe."),
    (StepRecipe, "Recipe: steps", "Tables `[step.NAME]` of a recipe."),
    (SpaceRecipe, "Recipe: spaces", "Tables `[space.NAME]` of a recipe."),
    (
        Gate,
        "Recipe: gate",
        "Table `[gate]` of a recipe. Keys ending in `_max_abs` are upper thresholds, other metrics lower ones. The "
        "defaults are those of float32; lower precisions have wider ones. "
        "[What the gate checks](export.md) explains each metric.",
    ),
]

CLI = """\
# Command line reference

Exit codes: 0 for success, 1 for a failed check, 2 for a mistake in the command or its files, and 130 after Ctrl-C.
This page is generated from the commands' help.
"""


def pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {"configuration.md": configuration(), "cli.md": commands()}


def configuration() -> str:
    """Return the page with a table for each record of settings."""
    tables = [f"## {heading}\n\n{lead}\n\n" + _table(record) for record, heading, lead in RECORDS]
    return "\n".join([CONFIGURATION, *tables])


def _table(record: type[Any]) -> str:
    texts = meanings(record)
    rows = [
        (f"`{field.name}`", _type(field.type), _default(field), texts.get(field.name, ""))
        for field in types.type_info(record).fields
        if HIDDEN not in texts.get(field.name, "")
    ]
    return _rows(("key", "type", "default", "meaning"), rows)


HIDDEN = "Set by `load`."


def meanings(record: type[Any]) -> dict[str, str]:
    """Return the text for each field named in a record's docstring: `name: text` or `a, b: text`, with more lines."""
    names = {field.name for field in types.type_info(record).fields}
    texts: dict[str, str] = {}
    current: list[str] = []
    for line in inspect.cleandoc(record.__doc__ or "").splitlines():
        found = re.match(r"\s*((?:\w+, )*\w+): (.*)", line)
        if found and names.issuperset(found[1].split(", ")):
            current = found[1].split(", ")
            texts |= dict.fromkeys(current, found[2])
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in current}
        else:
            current = []
    return texts


def _type(kind: types.Type) -> str:
    """Return a field's type in TOML's words, with its bounds."""
    match kind:
        case types.UnionType():
            kinds = [_type(one) for one in kind.types if not isinstance(one, types.NoneType)]
            return " or ".join(dict.fromkeys(kinds))
        case types.LiteralType():
            return ", ".join(f"`{value}`" for value in kind.values)
        case types.VarTupleType():
            return f"list of: {_type(kind.item_type)}"
        case types.DictType():
            return f"table of: {_type(kind.value_type)}"
        case types.StructType():
            return f"[table](#{_anchor(kind.cls)})" if _anchor(kind.cls) else "table"
        case types.IntType() | types.FloatType():
            return ("integer" if isinstance(kind, types.IntType) else "number") + _bounds(kind)
        case types.CustomType():
            return "path"
    simple = {types.StrType: "string", types.BoolType: "boolean", types.AnyType: "any value"}
    return simple.get(type(kind), "table")


def _bounds(kind: types.IntType | types.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" {kind.ge:g} to {kind.le:g}"
    signs = [("≥", kind.ge), (">", kind.gt), ("≤", kind.le), ("<", kind.lt)]
    bounds = [f"{sign} {bound:g}" for sign, bound in signs if bound is not None]
    return f" {', '.join(bounds)}" if bounds else ""


def _anchor(record: type[Any]) -> str:
    headings = {known: heading for known, heading, _ in RECORDS}
    return re.sub(r"[^\w\- ]", "", headings.get(record, "").lower()).replace(" ", "-")


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    default = field.default
    if isinstance(field.type, types.StructType | types.DictType) or default in (None, "", ()):
        return "—"
    return f"`{json.dumps(str(default) if isinstance(default, Path) else default)}`"


def commands() -> str:
    """Return the page with every command of the command line, its arguments and options."""
    app = copy.copy(cli.app)
    app.registered_commands, app.registered_groups = [*app.registered_commands], [*app.registered_groups]
    for entry in sorted(entry_points(group="embedge.commands"), key=lambda entry: entry.name):
        joined = entry.load()
        app.add_typer(joined, name=entry.name) if isinstance(joined, typer.Typer) else app.command(entry.name)(joined)
    root = typer.main.get_command(app)
    return CLI + "".join(f"\n{section}" for section in _sections(root, "embedge"))


def _sections(command: Any, path: str, level: int = 2) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands."""
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    subcommands = sorted(getattr(command, "commands", {}).items())
    parts = [f"{'#' * level} {path}\n", f"```text\n{usage}\n```\n", inspect.cleandoc(command.help or "") + "\n"]
    records = [_record(param, context) for param in command.params if not param.hidden]
    if records:
        parts.append(_rows(("argument or option", "meaning"), records))
    yield "\n".join(parts)
    for name, sub in subcommands:
        yield from _sections(sub, f"{path} {name}", min(level + (path != "embedge"), 3))


def _record(param: Any, context: Any) -> tuple[str, str]:
    """Return an option's names and its help, on a terminal of no particular width."""
    names, text = param.get_help_record(context)
    return f"`{names}`", text


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table; a bar inside a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
