"""`embedge export`: turns a trained encoder into a verified bundle. Heavy imports wait until it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from embedge.commands.ending import terminated_like_interrupted
from embedge.commands.tables import certificate_table, console
from embedge_export import recipe as recipes
from embedge_export.errors import ExportError, GateMiss
from embedge_export.thresholds import Precision

if TYPE_CHECKING:
    from rich.progress import TaskID

    from embedge.bundle.manifest import Manifest

__all__ = ["export"]

_TORCH = ("torch", "transformers", "sentence_transformers")
_ONNX = ("onnx", "onnxscript", "onnxruntime")


def export(
    source: Annotated[
        str | None, typer.Argument(help="A directory, an ONNX file, a hub id, or package:NAME/PATH.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe (TOML); the options here override it.")] = None,
    extend: Annotated[Path | None, typer.Option(help="A bundle to add the recipe's towers to.")] = None,
    out: Annotated[Path, typer.Option(help="The engine repository.")] = Path("engines"),
    name: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    version: Annotated[str | None, typer.Option(help="The bundle's version.")] = None,
    pooling: Annotated[str | None, typer.Option(help=f"{', '.join(recipes.POOLING)}; several with commas.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Length limit of a text in tokens.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of matrix products. (default: float32)")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Passages for the gate: one per line, or JSONL.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights. Only if you trust them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle of the same version.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Export a trained encoder as a bundle, and verify it against the original model.

    Exit code 1: a metric missed its threshold. Exit code 2: the source or the recipe needs a change. In both cases,
    nothing is written.
    """
    overrides: dict[str, object] = {"source": source, "name": name, "version": version, "max_length": max_length}
    overrides |= {"extends": str(extend) if extend else None}
    overrides |= {"pooling": _modes(pooling), "corpus": str(corpus) if corpus else None}
    overrides |= {"precision": precision}
    if recipe is None and source is None:
        raise ExportError("name a SOURCE, or a --recipe with a source")
    plan = recipes.load(recipe, **overrides)
    _check_installed(plan)
    try:
        with terminated_like_interrupted(), _progress() as stage:
            from embedge_export.build import build

            path, manifest = build(plan, out, allow_pickle=allow_pickle, force=force, stage=stage)
    except GateMiss as miss:
        _report_miss(miss, as_json=as_json)
        raise typer.Exit(1) from None
    _report(path, manifest, as_json=as_json)


def _check_installed(plan: recipes.Recipe) -> None:
    """Raise ExportError if a package for export is missing, before anything else happens."""
    from embedge_export.sources import onnx

    source = Path(plan.source)
    graphs_only = onnx.fits(source) if plan.source and source.exists() else not plan.source
    modules = any(tower.module for tower in plan.tower.values())
    needed = _ONNX if graphs_only and not modules else (*_TORCH, *_ONNX)
    if missing := [name for name in needed if not find_spec(name)]:
        raise ExportError(f"export needs {', '.join(missing)}; pip install 'embedge[export]'")


def _modes(pooling: str | None) -> tuple[str, ...] | None:
    return tuple(mode.strip() for mode in pooling.split(",")) if pooling else None


def _report(path: Path, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        _print_json({"bundle": str(path), "passed": True, "certificate": manifest.certificate})
        return
    if manifest.certificate is not None:
        console.print(certificate_table(manifest.certificate))
    console.print(f"[green]proven[/]: {manifest.name} {manifest.version} is in {path}", highlight=False)


def _report_miss(miss: GateMiss, *, as_json: bool) -> None:
    if as_json:
        _print_json({"bundle": None, "passed": False, "certificate": miss.certificate})
    else:
        console.print(certificate_table(miss.certificate))
    typer.echo(f"embedge: {miss}", err=True)


def _print_json(values: dict[str, object]) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(values), indent=2).decode())


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show the running stage on stderr; yield a function to call with the next one."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        running: list[TaskID] = []

        def finish() -> None:
            for task in running:
                progress.update(task, total=1, completed=1)

        def stage(name: str) -> None:
            finish()
            running.append(progress.add_task(name, total=None))

        try:
            yield stage
        except BaseException:
            progress.live.transient = True  # the error message follows, without a half-finished stage
            progress.live.stop()
            progress.disable = True  # avoids an empty line at the end
            raise
        finish()
