"""Tables shared by several commands."""

from __future__ import annotations

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from embedge.bundle.manifest import Certificate

__all__ = ["certificate_table", "console"]

console = Console()


def certificate_table(certificate: Certificate) -> Table:
    """Return the certificate as a table: each metric, its threshold, and the worst input where it failed.

    A line separates the metrics of one output of a tower from the next.
    """
    about = f"{certificate.items:,} items of {certificate.corpus} · {certificate.backend} · {certificate.device}"
    table = Table(title="Certificate", caption=escape(about), title_justify="left", caption_justify="left")
    for heading in ("metric", "value", "threshold", "", "worst input"):
        justify: JustifyMethod = "right" if heading in ("value", "threshold") else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    outputs = [name.rpartition(".")[0] for name in certificate.metrics]
    last = [output != after for output, after in zip(outputs, [*outputs[1:], None], strict=True)]
    for (name, metric), ends in zip(certificate.metrics.items(), last, strict=True):
        bound = "≥" if metric.better == "higher" else "≤"
        table.add_row(
            escape(name),
            f"{metric.value:.7g}",
            f"{bound} {metric.threshold:.7g}",
            "[green]pass[/]" if metric.passed else "[red]FAIL[/]",
            escape(metric.worst) if not metric.passed else "",
            end_section=ends,
        )
    return table
