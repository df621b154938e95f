"""`embedge verify`: repeat a bundle's gate on this device, from its golden pairs, and show every metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedge.commands.tables import certificate_table, console

__all__ = ["verify"]


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a model directory, whose newest version is taken.")],
    backend: Annotated[str | None, typer.Option(help="Backend to prove it on. (default: auto)")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of `embedge serve`: prove it with these settings.")
    ] = None,
) -> None:
    """Prove a bundle again on this device. Exit code 1 if a metric misses its threshold."""
    from msgspec.structs import replace

    from embedge.serving.config import ServeConfig
    from embedge.verify import verify as run

    settings = ServeConfig.load(config, {}, {"backend": backend}).runtime
    with console.status("running the golden pairs"):
        certificate = run(bundle, config=replace(settings, warm_up_seconds=0))
    console.print(certificate_table(certificate))
    if not certificate.passed:
        console.print(
            "[red]not proven on this device[/]: don't use its vectors; try another --backend, or export again"
        )
        raise typer.Exit(1)
    console.print("[green]proven on this device[/]")
