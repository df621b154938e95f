"""`embedge inspect`: the contents of a bundle, and its backend on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from embedge.commands.tables import certificate_table, console
from embedge.commands.towers import tower_tree

if TYPE_CHECKING:
    from embedge.backends.cores import LaneSplit
    from embedge.bundle import Bundle
    from embedge.bundle.manifest import Manifest

__all__ = ["inspect"]


def inspect(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a model directory, whose newest version is taken.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show a bundle: towers, spaces, graphs, certificate, and its backend on this machine."""
    from embedge.bundle import Bundle

    loaded = Bundle.load(bundle)
    name, device, reason, lanes = _backend(loaded)
    if as_json:
        _print_json(loaded, name, device, reason, lanes)
        return
    manifest = loaded.manifest
    console.print(_overview(loaded, name, device, reason, lanes))
    for tower_name, tower in manifest.towers.items():
        console.print(tower_tree(tower_name, tower))
    console.print(_spaces(manifest))
    if manifest.label_sets:
        console.print(_label_sets(manifest))
    console.print(_graphs(loaded))
    if manifest.certificate is None:
        console.print("[yellow]no certificate[/]: these vectors are not proven")
    else:
        console.print(certificate_table(manifest.certificate))


def _backend(bundle: Bundle) -> tuple[str | None, str, str, LaneSplit | None]:
    """Return the backend for this machine, its device, the reason, and the lanes measured by an earlier start.

    Without a backend, the first is None and the reason says why. Lanes are None until a start has measured them.
    """
    from embedge import backends
    from embedge.config import RuntimeConfig
    from embedge.errors import Unavailable
    from embedge.lanes.measurements import StartupMeasurements

    try:
        backend, reason = backends.choose()
    except Unavailable as error:
        return None, "", error.message, None
    measured = StartupMeasurements.load(
        StartupMeasurements.key(bundle, backend, RuntimeConfig(), next(iter(bundle.manifest.towers)))
    )
    if not backends.gpu_present():
        reason = reason.partition(" (")[0]  # the rest is about GPU backends; `embedge doctor` lists them
    return f"{backend.name} {backend.version()}", backend.device(), reason, measured.split if measured else None


def _print_json(bundle: Bundle, backend: str | None, device: str, reason: str, lanes: LaneSplit | None) -> None:
    import msgspec

    report: dict[str, Any] = {
        "path": str(bundle.path),
        "backend": backend,
        "backend_reason": reason,
        "device": device,
        "lanes": lanes,
        "manifest": bundle.manifest,
    }
    typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())


def _overview(bundle: Bundle, backend: str | None, device: str, reason: str, lanes: LaneSplit | None) -> Table:
    manifest = bundle.manifest
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    source = manifest.provenance
    rows = {
        "model": f"{manifest.name} {manifest.version}",
        "path": str(bundle.path),
        "source": f"{source.source} {source.revision}".strip(),
        "created": source.created,
        "tools": ", ".join(f"{tool} {version}" for tool, version in source.tools.items()),
        "backend": f"{backend or 'none'} ({reason})",
        "device": device,
        "lanes": f"{lanes.lanes} of {lanes.threads} threads: {lanes.reason}"
        if lanes
        else "measured at the first start",
    }
    for heading, text in rows.items():
        if text:
            table.add_row(heading, escape(text))
    return table


def _spaces(manifest: Manifest) -> Table:
    table = Table(title="Spaces", title_justify="left")
    table.add_column("id", overflow="fold", no_wrap=True)  # it is there to be copied
    for heading in ("dim", "metric", "logit", "compatible with"):
        table.add_column(heading, overflow="fold")
    for space in manifest.spaces.values():
        logit = "" if (space.scale, space.bias) == (1, 0) else f"{space.scale:g} s {space.bias:+g}"
        table.add_row(escape(space.id), str(space.dim), space.metric, logit, _list(space.lineage))
    return table


def _label_sets(manifest: Manifest) -> Table:
    table = Table(title="Label sets", title_justify="left")
    for heading in ("name", "labels", "templates", "embedded by", "scores"):
        table.add_column(heading, overflow="fold")
    for name, labels in manifest.label_sets.items():
        counts = [f"{len(each):,}" for each in (labels.labels, labels.templates)]
        table.add_row(escape(name), *counts, escape(f"{labels.tower}.{labels.output}"), labels.scores)
    return table


def _graphs(bundle: Bundle) -> Table:
    table = Table(title="Graphs", title_justify="left")
    for heading in ("name", "file", "precision", "MiB", "inputs", "outputs"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "MiB" else "left")
    for name, graph in bundle.manifest.graphs.items():
        size = (bundle.path / graph.file).stat().st_size / 2**20
        specs = [", ".join(f"{spec.name}: {spec.dtype}" for spec in side) for side in (graph.inputs, graph.outputs)]
        table.add_row(escape(name), escape(graph.file), graph.precision, f"{size:.1f}", *map(escape, specs))
    return table


def _list(values: tuple[object, ...]) -> str:
    return escape(", ".join(map(str, values)))
