"""Tables that more than one command shows."""

from __future__ import annotations

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from embedge.bundle.manifest import Certificate

__all__ = ["certificate_table", "console"]

console = Console()


def certificate_table(certificate: Certificate) -> Table:
    """Return the certificate as a table: each figure beside its limit, and the input that set it where it missed.

    A line parts the figures of one output of a tower from those of the next.
    """
    about = f"{certificate.items:,} items of {certificate.corpus} · {certificate.backend} · {certificate.device}"
    table = Table(title="Certificate", caption=escape(about), title_justify="left", caption_justify="left")
    for heading in ("figure", "value", "limit", "", "worst input"):
        justify: JustifyMethod = "right" if heading in ("value", "limit") else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    outputs = [name.rpartition(".")[0] for name in certificate.figures]
    last = [output != after for output, after in zip(outputs, [*outputs[1:], None], strict=True)]
    for (name, figure), ends in zip(certificate.figures.items(), last, strict=True):
        bound = "≥" if figure.better == "higher" else "≤"
        table.add_row(
            escape(name),
            f"{figure.value:.7g}",
            f"{bound} {figure.limit:.7g}",
            "[green]pass[/]" if figure.passed else "[red]MISS[/]",
            escape(figure.worst) if not figure.passed else "",
            end_section=ends,
        )
    return table
