"""`embedge doctor`: this machine's hardware and libraries, the chosen backend, and missing packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from embedge.commands.tables import console

if TYPE_CHECKING:
    from embedge.doctor import Report

__all__ = ["doctor"]

_STYLES = {"ok": "green", "missing": "yellow", "warning": "bold red", "failed": "magenta"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Examine this machine: hardware, libraries, the backend for models and why, and missing packages.

    Exit code 0: models can run here; 1: they can't.
    """
    import msgspec

    from embedge.doctor import examine, here

    report = examine(here())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        console.print(_table(report))
        style = "green" if report.backend else "bold red"
        console.print(f"[{style}]backend: {escape(report.backend or 'none')}[/] ({escape(report.reason)})")
    if not report.backend:
        raise typer.Exit(1)


def _table(report: Report) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(overflow="fold")
    for each in report.findings:
        text = escape(each.text) + (f"\n[dim]→ {escape(each.help)}[/]" if each.help else "")
        table.add_row(each.topic, f"[{_STYLES[each.state]}]{each.state}[/]", text)
    return table
