"""`embedge serve`: from the command line to a running server and to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedge import atomic
from embedge import trace as tracing
from embedge.errors import Unavailable
from embedge.serving.config import ServeConfig

if TYPE_CHECKING:
    from embedge.serving.server import Server

__all__ = ["run", "serve"]

log = logging.getLogger("embedge.serving")


def serve(
    repository: Annotated[
        Path | None, typer.Argument(help="Engine repository, or a model or bundle. (default: engines)")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of these settings, and more; options win.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Serve this model; repeat for more. (default: all)")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0: all. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one. (default: 50051)")] = None,
    token: Annotated[str | None, typer.Option(envvar="EMBEDGE_TOKEN", help="Token that calls must carry.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Server certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the server certificate, PEM.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="Authority that certifies clients, PEM.")] = None,
    max_message_bytes: Annotated[int | None, typer.Option(help="Largest message in bytes. (default: 67108864)")] = None,
    stream_in_flight: Annotated[int | None, typer.Option(help="Unanswered requests of a stream. (default: 64)")] = None,
    drain_seconds: Annotated[float | None, typer.Option(help="Time to finish admitted work. (default: 30)")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Holds the address while all models are warm.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Chrome trace of what each thread did, for Perfetto.")] = None,
    backend: Annotated[str | None, typer.Option(help="Backend to run on. (default: auto)")] = None,
    lanes: Annotated[int | None, typer.Option(help="Execution slots. (default: measured at start)")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads a lane. (default: measured at start)")] = None,
) -> None:
    """Serve an engine repository over gRPC. Prints `ready HOST:PORT` once every model is warm."""
    options = {
        "repository": repository,
        "models": model or None,
        "host": host,
        "port": port,
        "token": token,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "max_message_bytes": max_message_bytes,
        "stream_in_flight": stream_in_flight,
        "drain_seconds": drain_seconds,
        "ready_file": ready_file,
        "trace": trace,
    }
    run(ServeConfig.load(config, options, {"backend": backend, "lanes": lanes, "threads": threads}))


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal ends the process at once."""
    missing = [name for name in ("grpc", "grpc_health", "grpc_reflection", "grpc_status") if not find_spec(name)]
    if missing:
        raise Unavailable(f"serving needs {', '.join(missing)}; pip install 'embedge[serve]'")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the C core's lines on stderr repeat our messages
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _forget(config.ready_file)  # left behind by a killed server
    with tracing.record(config.trace):
        asyncio.run(_serve(config))


async def _serve(config: ServeConfig) -> None:
    from embedge.repository import scan
    from embedge.serving.server import Server

    scan(config.repository)  # reports a missing repository before anything starts
    stopping = _stop_event()
    server = Server(config)
    await server.start()
    log.info("listening on %s, loading models", server.address)
    try:
        load = asyncio.ensure_future(server.load())
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({load, stop}, return_when=asyncio.FIRST_COMPLETED)
        await _loaded(server, load, stopping)
        if not stopping.is_set():
            _announce(server, config.ready_file)
        await stop
        log.info("stopping: finishing the admitted work first")
    finally:
        _forget(config.ready_file)
        await server.stop()


async def _loaded(server: Server, load: asyncio.Future[None], stopping: asyncio.Event) -> None:
    """Wait for the models, also when stopping: a half-open model cannot be closed, but no other is opened."""
    if stopping.is_set():
        server.give_up()
    try:
        await load
    except Unavailable as error:
        if not stopping.is_set():
            raise
        log.info("models were not opened: %s", error.message)


def _stop_event() -> asyncio.Event:
    """Return an event set by the first SIGTERM or SIGINT; a second signal ends the process."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        event.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            # Python's own SIGINT handler would raise KeyboardInterrupt, then wait for the draining threads.
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    return event


def _announce(server: Server, ready_file: Path | None) -> None:
    """Announce the address to people and scripts once every model is warm."""
    if ready_file is not None:
        atomic.write(ready_file, f"{server.address}\n".encode(), durable=False)
    log.info("serving %s", ", ".join(server.models.loaded.names()))
    typer.echo(f"ready {server.address}")


def _forget(ready_file: Path | None) -> None:
    """Remove the ready file."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
