"""The work of `embedge embed`: open a model here or on a server, and run chunks of lines through it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial as bind
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedge.bundle import manifest as manifests
from embedge.commands.embed.items import ItemReader
from embedge.commands.embed.lines import Chunk, InputLine
from embedge.commands.embed.partial import ChunkResult, LineError, WrittenRow
from embedge.errors import InvalidInput, Unavailable
from embedge.outputs import Vectors
from embedge.request import Reply, Request

__all__ = ["EmbedJob", "EmbedModel", "OpenJob", "Remote"]

# Chunks in progress: one is computed while the previous one is written.
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class EmbedModel:
    """An open model: how to run a request, its identity, and the modalities of its towers' parts."""

    run: Callable[[Request], Reply]
    identity: str
    towers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def modalities(self, tower: str | None) -> dict[str, str]:
        """Return the modality of each part, of one tower or of all."""
        chosen = [parts for name, parts in self.towers.items() if tower in (None, name)]
        return {name: modality for parts in chosen for name, modality in parts.items()}


@dataclass(frozen=True, slots=True)
class Remote:
    """A server: its address, and how to speak with it; see `Client`."""

    address: str
    token: str | None = None
    tls: bool | Path | None = None
    cert: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """The settings of one run.

    Attributes:
        model: A bundle's path or, with `server`, a model's name.
        server: The server to use, or None for this process.
        options: Fields of `Request`.
        chunk: Lines per request.
        json_field: The field for `chunks`, or None for plain lines.
        files: Lines are paths of files.
        base: The directory of relative paths.
    """

    model: str
    server: Remote | None
    options: dict[str, Any]
    chunk: int
    json_field: str | None = None
    files: bool = False
    base: Path = Path()

    @contextmanager
    def opened(self) -> Iterator[OpenJob]:
        """Open the model, and yield the job with it."""
        with _model(self.model, self.server) as model:
            known = model.modalities(self.options.get("tower"))
            yield OpenJob(self, model, ItemReader(self.base, self.files, self.json_field or "text", known))


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job with its model open."""

    job: EmbedJob
    model: EmbedModel
    items: ItemReader

    @property
    def settings(self) -> dict[str, str]:
        """Settings shared by a run and its resumption."""
        job = self.job
        lines = {"chunk": job.chunk, "field": job.json_field, "files": job.files}
        settings = {"model": self.model.identity, **lines, **job.options}
        return {name: str(value) for name, value in settings.items()}

    def run(self, parts: Iterator[Chunk]) -> Iterator[tuple[Chunk, ChunkResult]]:
        """Run chunks through the model; yield them in order with their results."""
        return _pipelined(self._embed, parts)

    def _embed(self, chunk: Chunk) -> ChunkResult:
        good, items, faults = self._read(chunk)
        if not good:
            return ChunkResult([], faults, None)
        reply = self.model.run(Request(items=items, priority="bulk", **self.job.options))
        name, vectors = next(iter(reply.outputs.items()))
        if not isinstance(vectors, Vectors):
            raise InvalidInput(
                f"output {name!r} is {vectors.kind}; files take one vector a line: name a dense --output"
            )
        faults += [LineError(good[index].number, error.message) for index, error in reply.errors.items()]
        kept = [index for index in range(len(good)) if index not in reply.errors]
        scales = vectors.scales
        rows = [WrittenRow(good[i].number, good[i].id, None if scales is None else float(scales[i])) for i in kept]
        faults.sort(key=lambda fault: fault.line)
        return ChunkResult(rows, faults, vectors.take(kept))

    def _read(self, chunk: Chunk) -> tuple[list[InputLine], list[Any], list[LineError]]:
        """Return the good lines, their items, and the errors of the other lines."""
        good, items, faults = [], [], []
        for line in chunk.lines:
            try:
                items.append(self.items.item(line))
                good.append(line)
            except InvalidInput as error:
                faults.append(LineError(line.number, error.message))
        return good, items, faults


@contextmanager
def _model(name: str, server: Remote | None) -> Iterator[EmbedModel]:
    """Open the bundle, or a client of the server."""
    if server is None:
        from embedge.embedder import Embedder

        with Embedder.open(name) as embedder:
            digest = sha256(manifests.encode(embedder.manifest)).hexdigest()
            towers = {
                tower: {part: spec.modality for part, spec in each.parts.items()}
                for tower, each in embedder.towers.items()
            }
            yield EmbedModel(embedder.run, f"{embedder.name} {embedder.version}, manifest {digest}", towers)
    elif find_spec("grpc") is None:
        raise Unavailable("--server needs grpc, which is not installed; pip install 'embedge[client]'")
    else:
        from embedge.client import Client

        with Client(server.address, token=server.token, tls=server.tls, cert=server.cert) as client:
            info = client.model(name)
            spaces = " and ".join(space.id for space in info.spaces)
            towers = {tower.name: {part.name: part.modality for part in tower.parts} for tower in info.towers}
            yield EmbedModel(bind(client.run, name), f"{info.name} {info.version}, space {spaces}", towers)


def _pipelined(embed: Callable[[Chunk], ChunkResult], parts: Iterator[Chunk]) -> Iterator[tuple[Chunk, ChunkResult]]:
    """Yield each chunk with its result, in order, with a few under way at once."""
    waiting: deque[tuple[Chunk, Future[ChunkResult]]] = deque()
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="embedge-embed") as pool:
        for chunk in parts:
            waiting.append((chunk, pool.submit(embed, chunk)))
            if len(waiting) == _IN_FLIGHT:
                first, future = waiting.popleft()
                yield first, future.result()
        for chunk, future in waiting:
            yield chunk, future.result()
