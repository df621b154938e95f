"""`embedge build`: a bundle's graphs become TensorRT plans for the GPU here, proven on it and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from embedge.commands.bar import bars
from embedge.commands.ending import terminated_like_interrupted
from embedge.commands.tables import console
from embedge.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from embedge.backends import BackendModel
    from embedge.backends.tensorrt.plans.key import PlanKey
    from embedge.backends.tensorrt.plans.record import Plan, PlanRecord
    from embedge.bundle import Bundle
    from embedge.config import RuntimeConfig

__all__ = ["build"]

_MIB = 2**20


def build(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle, or a model directory, whose newest version is taken.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of `embedge serve`: plans for its settings.")] = None,
    gpu: Annotated[int | None, typer.Option(help="Number of the GPU. (default: 0)")] = None,
    tower: Annotated[list[str] | None, typer.Option(help="For this tower; repeat for more. (default: all)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Build existing and refused plans again.")] = False,
    sign: Annotated[Path | None, typer.Option(help="Private ed25519 key, PEM: signs copies in --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for signed plans, such as BUNDLE/plans.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the cached plans and build nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove plans for other versions.")] = False,
) -> None:
    """Build a bundle's TensorRT plans for this machine's GPU and prove them on it. Existing plans are kept.

    Exit code 1: the gate refused a plan, and the model runs on another backend.
    """
    from embedge.serving.config import ServeConfig

    values = {"backend": "tensorrt", "gpu": gpu, "towers": tuple(tower) if tower else None}
    settings = ServeConfig.load(config, {}, values).runtime
    if (sign is None) != (out is None):
        raise InvalidInput("signed plans need both --sign and --out")
    if bundle is None and not listed and not prune:
        raise InvalidInput("name a BUNDLE, or ask for --list or --prune")
    if prune:
        _prune(settings)
    if bundle is not None:
        _build(bundle, settings, force=force, sign=sign, out=out)
    if listed:
        _list()


def _build(path: Path, config: RuntimeConfig, *, force: bool, sign: Path | None, out: Path | None) -> None:
    from embedge.backends.tensorrt.plans.build import Builder
    from embedge.backends.tensorrt.plans.signature import signer
    from embedge.backends.tensorrt.plans.store import PlanStore
    from embedge.bundle import Bundle

    key = signer(sign) if sign is not None else None  # fails before minutes of building, not after
    bundle = Bundle.load(path)
    keys = _keys(bundle, config)
    with terminated_like_interrupted(), bars() as on_message:
        plans = Builder(PlanStore(), on_message).build(bundle, keys, config, force=force)
    console.print(_table(bundle, plans))
    if key is not None and out is not None:
        _ship(plans, out, key)
    if refused := [graph for graph, plan in plans.items() if plan.record.refused]:
        names = ", ".join(refused)
        console.print(f"[red]refused[/]: {names}; the model runs on another backend; --force tries again")
        raise typer.Exit(1)


def _keys(bundle: Bundle, config: RuntimeConfig) -> dict[str, PlanKey]:
    """Return the key of each graph's plan on this machine. Raises Unavailable if no plan can be built here."""
    from embedge.backends.tensorrt.backend import TensorRTBackend

    runner = TensorRTBackend(config)
    if missing := runner.missing():
        raise Unavailable(f"plans cannot be built here: {missing}")
    return runner.keys(_model(bundle, config))


def _model(bundle: Bundle, config: RuntimeConfig) -> BackendModel:
    from embedge.backends import BackendModel
    from embedge.batches.probes import Probes
    from embedge.calls.sets import towers
    from embedge.inputs.items import ItemInput

    inputs = {name: ItemInput.of(bundle, name, config) for name in towers(bundle.manifest, config.towers)}
    probes = Probes(bundle.manifest, {name: each.probe() for name, each in inputs.items()})
    return BackendModel(bundle, config, probes.graphs, probes)


def _ship(plans: Mapping[str, Plan], out: Path, key: Ed25519PrivateKey) -> None:
    from embedge.backends.tensorrt.plans import shipped

    for graph, plan in plans.items():
        if not plan.record.refused:
            console.print(f"{escape(graph)}: signed, in {escape(str(shipped.ship(plan, out, key)))}", highlight=False)


def _prune(config: RuntimeConfig) -> None:
    from embedge.backends.tensorrt import library
    from embedge.backends.tensorrt.plans.key import BuildDevice
    from embedge.backends.tensorrt.plans.prune import prune
    from embedge.backends.tensorrt.plans.store import PlanStore
    from embedge.cuda import choose

    if missing := library.missing():
        raise Unavailable(f"--prune keeps what is for the TensorRT here: {missing}")
    count, freed = prune(PlanStore(), library.version(), BuildDevice.here(choose(config.cuda, config.gpu).gpu()))
    console.print(f"removed {count} plans, {freed / _MIB:,.1f} MiB", highlight=False)


def _list() -> None:
    from embedge.backends.tensorrt.plans.store import PlanStore

    store = PlanStore()
    table = Table(title="Plans", title_justify="left", caption=escape(str(store.root)), caption_justify="left")
    for heading in ("model", "graph", "GPU", "TensorRT", "embedge", "MiB", "built", ""):
        table.add_column(heading, justify="right" if heading == "MiB" else "left", overflow="fold")
    for folder, record in store.plans():
        table.add_row(*(["?"] * 7 if record is None else _row(record)), _state(folder, record))
    console.print(table)


def _row(record: PlanRecord) -> list[str]:
    key = record.key
    words = (record.model, record.graph, key.device.gpu, key.tensorrt, key.embedge)
    return [*map(escape, words), f"{record.nbytes / _MIB:.1f}", record.created]


def _state(folder: Path, record: PlanRecord | None) -> str:
    if record is None:
        return f"[red]damaged[/]: {folder.name[:12]}…"
    return f"[red]refused[/]: {escape(record.refused)}" if record.refused else "[green]good[/]"


def _table(bundle: Bundle, plans: Mapping[str, Plan]) -> Table:
    manifest = bundle.manifest
    table = Table(title=escape(f"Plans of {manifest.name} {manifest.version}"), title_justify="left")
    for heading in ("graph", "MiB", "seconds", "metrics", ""):
        table.add_column(heading, justify="right" if heading in ("MiB", "seconds") else "left", overflow="fold")
    for graph, plan in plans.items():
        record = plan.record
        figures = ", ".join(f"{name} {value:.7g}" for name, value in record.figures.items())
        size = f"{record.nbytes / _MIB:.1f}"
        table.add_row(escape(graph), size, f"{record.seconds:.0f}", escape(figures), _state(plan.folder, record))
    return table
