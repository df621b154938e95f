"""The work of `embedge embed`: a model opened here or on a server, and chunks of lines run through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial as bind
from importlib.util import find_spec
from typing import Any

from embedge.commands.lines import Chunk
from embedge.commands.partial import Fault, Result, Row
from embedge.errors import Unavailable
from embedge.outputs import Vectors
from embedge.request import Reply, Request

__all__ = ["Job"]

Run = Callable[[Request], Reply]

# Chunks under way at once: one is computed while the one before it is written.
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What is embedded with: a bundle's path, or with `server` a model's name.

    options: fields of `Request`. chunk: lines in one request.
    """

    model: str
    server: str | None
    options: dict[str, Any]
    chunk: int

    @property
    def settings(self) -> dict[str, str]:
        """What two runs must have in common for one to go on with the other's rows."""
        settings = {"model": self.model, "chunk": self.chunk, **self.options}
        return {name: str(value) for name, value in settings.items()}

    @contextmanager
    def opened(self) -> Iterator[Callable[[Iterator[Chunk]], Iterator[tuple[Chunk, Result]]]]:
        """Open the model; yield a function that runs chunks through it and returns them in order with their results."""
        with _model(self.model, self.server) as run:
            yield bind(_pipelined, bind(self._embed, run))

    def _embed(self, run: Run, chunk: Chunk) -> Result:
        good = chunk.good
        faults = [Fault(line.number, line.fault) for line in chunk.lines if line.fault]
        if not good:
            return Result([], faults, None)
        reply = run(Request(items=[line.text for line in good], priority="bulk", **self.options))
        vectors = next(iter(reply.outputs.values()))
        faults += [Fault(good[index].number, error.message) for index, error in reply.errors.items()]
        kept = [index for index in range(len(good)) if index not in reply.errors]
        scales = vectors.scales
        rows = [Row(good[i].number, good[i].id, None if scales is None else float(scales[i])) for i in kept]
        faults.sort(key=lambda fault: fault.line)
        return Result(rows, faults, Vectors(vectors.values[kept], vectors.space, vectors.dtype))


@contextmanager
def _model(name: str, server: str | None) -> Iterator[Run]:
    """Open the bundle, or a client of the server, and yield its `run`."""
    if server is None:
        from embedge.embedder import Embedder

        with Embedder.open(name) as embedder:
            yield embedder.run
    elif find_spec("grpc") is None:
        raise Unavailable("--server needs grpc, which is not installed; pip install 'embedge[client]'")
    else:
        from embedge.client import Client

        with Client(server) as client:
            yield bind(client.run, name)


def _pipelined(embed: Callable[[Chunk], Result], parts: Iterator[Chunk]) -> Iterator[tuple[Chunk, Result]]:
    """Yield each chunk with its result, in order, with a few under way at once."""
    waiting: deque[tuple[Chunk, Future[Result]]] = deque()
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="embedge-embed") as pool:
        for chunk in parts:
            waiting.append((chunk, pool.submit(embed, chunk)))
            if len(waiting) == _IN_FLIGHT:
                first, future = waiting.popleft()
                yield first, future.result()
        for chunk, future in waiting:
            yield chunk, future.result()
