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

from embedge.config import RuntimeConfig
from embedge.errors import Unavailable
from embedge.serving.config import ServeConfig
from embedge.wire import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from embedge.serving.server import Server

__all__ = ["run", "serve"]

log = logging.getLogger("embedge.serving")


def serve(
    repository: Annotated[Path, typer.Argument(help="Engine repository, or a model or bundle.")] = Path("engines"),
    model: Annotated[list[str] | None, typer.Option(help="Serve this model; repeat for more. Default: all.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 50051,
    token: Annotated[str | None, typer.Option(envvar="EMBEDGE_TOKEN", help="Token that calls must carry.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Server certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the server certificate, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Authority that clients must be certified by, PEM.")
    ] = None,
    max_message_bytes: Annotated[int, typer.Option(min=1024, help="Largest message, in bytes.")] = MAX_MESSAGE_BYTES,
    stream_in_flight: Annotated[int, typer.Option(min=1, help="Unanswered requests a stream may have.")] = 64,
    drain_seconds: Annotated[float, typer.Option(min=0, help="Time for admitted work at the end.")] = 30.0,
    ready_file: Annotated[Path | None, typer.Option(help="Gets the address once all models are warm.")] = None,
    backend: Annotated[str, typer.Option(help="Backend to run on.")] = "auto",
    lanes: Annotated[int | None, typer.Option(min=1, help="Execution slots; default: chosen here.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads a lane.")] = None,
) -> None:
    """Serve an engine repository over gRPC. Prints `ready HOST:PORT` once every model is warm."""
    run(
        ServeConfig(
            repository=repository,
            models=tuple(model) if model else None,
            host=host,
            port=port,
            token=token,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            max_message_bytes=max_message_bytes,
            stream_in_flight=stream_in_flight,
            drain_seconds=drain_seconds,
            ready_file=ready_file,
            runtime=RuntimeConfig(backend=backend, lanes=lanes, threads=threads),
        )
    )


def run(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal ends the process at once."""
    missing = [name for name in ("grpc", "grpc_health", "grpc_reflection", "grpc_status") if not find_spec(name)]
    if missing:
        raise Unavailable(f"serving needs {', '.join(missing)}; pip install 'embedge[serve]'")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_serve(config))


async def _serve(config: ServeConfig) -> None:
    from embedge.repository import scan
    from embedge.serving.server import Server

    scan(config.repository)  # a repository that is not there is said before anything is started
    told = _stop_event()
    server = Server(config)
    await server.start()
    log.info("listening on %s, loading models", server.address)
    try:
        load = asyncio.ensure_future(server.load())
        stop = asyncio.ensure_future(told.wait())
        await asyncio.wait({load, stop}, return_when=asyncio.FIRST_COMPLETED)
        await load  # also when told to stop: what is half open cannot be closed
        if not told.is_set():
            _announce(server, config.ready_file)
        await stop
        log.info("told to stop; admitted work is finished first")
    finally:
        await server.stop()


def _stop_event() -> asyncio.Event:
    """Return the event that the first SIGTERM or SIGINT sets."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def tell(number: signal.Signals) -> None:
        event.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    return event


def _announce(server: Server, ready_file: Path | None) -> None:
    """Tell people and scripts that every model is warm, and where."""
    if ready_file is not None:
        draft = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        draft.write_text(f"{server.address}\n")
        draft.replace(ready_file)
    log.info("serving %s", ", ".join(server.models.loaded.names()))
    typer.echo(f"ready {server.address}")
