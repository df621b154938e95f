"""Servers for tests: the real one in its own process, and one in this event loop over a model that a test plays."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from embedge import Bundle, NotFound, Reply, Repository, Request, RuntimeConfig, Vectors
from embedge.bundle.manifest import Manifest, Tower
from embedge.serving.config import ServeConfig
from embedge.serving.server import Server

SERVE = (sys.executable, "-W", "error", "-m", "embedge.cli", "serve")


@dataclass
class Process:
    """A running `embedge serve`."""

    popen: subprocess.Popen[str]
    address: str

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM, wait for the end, and return the exit code and what was logged."""
        self.popen.terminate()
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end, and return the exit code and what was logged."""
        _, log = self.popen.communicate(timeout=60)
        return self.popen.returncode, log


@contextmanager
def served(repository: Path, *options: str, serve: Sequence[str] = SERVE) -> Iterator[Process]:
    """Start `embedge serve` on a free port, wait for its ready line, and end it afterwards."""
    command = [*serve, str(repository), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
        assert popen.stdout is not None
        line = popen.stdout.readline()
        if not line.startswith("ready "):
            raise AssertionError(f"no ready line, but {line!r}: {popen.communicate(timeout=60)[1]}")
        try:
            yield Process(popen, line.split()[1])
        finally:
            if popen.poll() is None:
                popen.terminate()
                popen.communicate(timeout=60)


def serve_fails(repository: Path, *options: str) -> tuple[int, str]:
    """Run `embedge serve`, which is expected to end by itself; return its exit code and what it wrote to stderr."""
    done = subprocess.run([*SERVE, str(repository), *options], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@dataclass
class PlayedModel:
    """A model whose every move a test makes. Requests wait in `calls`; `script` may answer or raise at once."""

    manifest: Manifest
    script: Callable[[Request], Reply] | None = None
    serving: bool = True
    calls: asyncio.Queue[tuple[Request, Future[Reply]]] = field(default_factory=asyncio.Queue)
    drained: Future[bool] = field(default_factory=Future)
    drains: list[float | None] = field(default_factory=list)
    tell: Callable[[bool], None] | None = None
    backend: str = "played 1"
    backend_reason: str = "a test"
    device: str = "a stage"
    max_in_flight: int = 1
    cuda_graphs: int = 0
    config: RuntimeConfig = field(default_factory=RuntimeConfig)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def towers(self) -> dict[str, Tower]:
        return self.manifest.towers

    def submit(self, request: Request) -> Future[Reply]:
        future: Future[Reply] = Future()
        if self.script is not None:
            future.set_result(self.script(request))
        else:
            self.calls.put_nowait((request, future))
        return future

    def watch(self, listener: Callable[[bool], None]) -> None:
        self.tell = listener
        listener(self.serving)

    def drain(self, timeout: float | None = None) -> bool:
        self.drains.append(timeout)
        return self.drained.result(timeout)

    def close(self, timeout: float | None = None) -> None: ...

    async def call(self) -> tuple[Request, Future[Reply]]:
        """Return the next request and the future that answers it."""
        return await asyncio.wait_for(self.calls.get(), 30)

    def reply(self, request: Request, value: float = 0.0) -> Reply:
        """Return a reply to a request with every number being `value`."""
        vectors = np.full((len(request.items), 16), value, np.float32)
        return Reply(
            model=self.name,
            version=self.version,
            tower="text",
            outputs={"dense": Vectors(vectors, "played")},
            tokens=np.ones(len(request.items), np.int32),
        )


class Played:
    """An engine repository of played models."""

    def __init__(self, *models: PlayedModel) -> None:
        self._models = {model.name: model for model in models}

    def get(self, name: str) -> PlayedModel:
        if name not in self._models:
            raise NotFound(f"model {name!r} is unknown; this server has: {', '.join(self._models)}")
        return self._models[name]

    def names(self) -> list[str]:
        return sorted(self._models)

    def __iter__(self) -> Iterator[PlayedModel]:
        return iter(self._models.values())


def played_model(engines: Path, **moves: Any) -> PlayedModel:
    """Return a played model with the manifest of the repository's `tiny`."""
    return PlayedModel(Bundle.load(engines / "tiny").manifest, **moves)


@asynccontextmanager
async def serving(*models: PlayedModel, **settings: Any) -> AsyncIterator[Server]:
    """Serve played models from this event loop."""
    server = Server(ServeConfig(repository=Path(), port=0, **settings))
    await server.start()
    await server.serve(cast(Repository, Played(*models)))
    try:
        yield server
    finally:
        for model in models:
            if not model.drained.done():
                model.drained.set_result(True)
        await server.stop()
