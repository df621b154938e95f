"""The partial result of `embedge embed`: a directory beside the output, left behind by an interrupted run.

Rows are only appended, and the checkpoint records the valid size of each file. Resuming cuts off everything after the
last checkpoint, so no line is lost, doubled or out of order. (Two runs of the same lines may differ in the last bit of
a number, resumed or not: batch forming depends on timing.)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedge import atomic
from embedge.commands.disk import naming
from embedge.commands.embed.lines import Chunk
from embedge.errors import InvalidInput
from embedge.outputs import Vectors

__all__ = ["Checkpoint", "ChunkResult", "LineError", "Partial", "WrittenRow"]

_FILES = ("vectors", "rows", "errors")
_LOCK = "lock"


class WrittenRow(msgspec.Struct, omit_defaults=True):
    """An embedded line: its number, its id if any, and its scale if the dtype has one."""

    line: int
    id: str | int | None = None
    scale: float | None = None


class LineError(msgspec.Struct):
    """A failed line and the reason."""

    line: int
    error: str


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The outcome of a chunk. `vectors` has one row per entry of `rows`; None if the chunk has no valid line."""

    rows: list[WrittenRow]
    faults: list[LineError]
    vectors: Vectors | None

    @property
    def array(self) -> NDArray[np.generic]:
        """The rows' vectors, (n, width)."""
        return np.empty((0, 0), np.float32) if self.vectors is None else self.vectors.values


class Checkpoint(msgspec.Struct):
    """Progress of a run. `digest` covers the input read so far, `sizes` the valid bytes of each file."""

    settings: dict[str, str]
    lines: int = 0
    failed: int = 0
    digest: str = ""
    width: int = 0
    dtype: str = "float32"
    space: str = ""
    sizes: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(_FILES, 0))


class Partial:
    """Appends chunks and keeps a checkpoint. A resumed run must have the same `settings`.

    One run at a time: it holds a lock on a file in the directory. The system releases it however the run ends.
    """

    def __init__(self, path: Path, settings: dict[str, str], *, resume: bool) -> None:
        """Open or begin the partial result at `path`. Raises InvalidInput if the two runs do not fit together."""
        self.path = path
        self.state = Checkpoint(settings)
        self._digest = sha256()
        path.mkdir(exist_ok=True)
        with ExitStack() as stack:
            self._lock(stack.enter_context((path / _LOCK).open("ab")))
            if self._checkpoint.is_file():
                if not resume:
                    raise InvalidInput(f"{path} holds an interrupted run; go on with --resume, or remove it")
                self.state = self._load(settings)
            self._files = {name: stack.enter_context(self._reopen(name)) for name in _FILES}
            self._held = stack.pop_all()

    def skip(self, chunks: Iterator[Chunk]) -> int:
        """Skip the finished lines; return their bytes. Raises InvalidInput if the input has changed."""
        done = size = 0
        while done < self.state.lines and (chunk := next(chunks, None)) is not None:
            done += len(chunk.lines)
            size += len(chunk.raw)
            self._digest.update(chunk.raw)
        if done != self.state.lines or (done and self._digest.hexdigest() != self.state.digest):
            raise InvalidInput(
                f"the first {self.state.lines:,} lines are not those of the interrupted run in {self.path}"
            )
        return size

    def append(self, chunk: Chunk, result: ChunkResult) -> None:
        """Add a chunk's outcome and save the checkpoint. Raises InvalidInput if the vectors' space changed.

        After an error `state` still matches the checkpoint; close the object then.
        """
        state = msgspec.structs.replace(self.state)
        if result.vectors is not None and result.rows:
            self._same_space(result.vectors)
            array = result.array
            state.width, state.dtype, state.space = array.shape[1], array.dtype.str, result.vectors.space
        self._digest.update(chunk.raw)
        state.lines += len(chunk.lines)
        state.failed += len(result.faults)
        state.digest = self._digest.hexdigest()
        with naming(self.path):
            self._files["vectors"].write(result.array.tobytes())
            self._files["rows"].writelines(msgspec.json.encode(row) + b"\n" for row in result.rows)
            self._files["errors"].writelines(msgspec.json.encode(fault) + b"\n" for fault in result.faults)
            self._save(state)
        self.state = state

    def rows(self, size: int = 4096) -> Iterator[tuple[list[WrittenRow], NDArray[np.generic]]]:
        """Yield all rows with their vectors, (n, width), up to `size` at a time."""
        decoder = msgspec.json.Decoder(WrittenRow)
        dtype = np.dtype(self.state.dtype)
        with (self.path / "rows").open("rb") as rows, (self.path / "vectors").open("rb") as vectors:
            while metas := [decoder.decode(line) for _, line in zip(range(size), rows, strict=False)]:
                data = vectors.read(len(metas) * self.state.width * dtype.itemsize)
                yield metas, np.frombuffer(data, dtype).reshape(len(metas), self.state.width)

    def close(self) -> None:
        """Close the files and give back the lock; the partial result stays."""
        with naming(self.path):  # closing flushes buffers left by an error
            self._held.close()

    def remove(self) -> None:
        """Remove the partial result: the run is finished."""
        self._checkpoint.unlink(missing_ok=True)
        for file in sorted(self.path.iterdir(), key=lambda file: file.name == _LOCK):  # locked to the end
            file.unlink()
        with suppress(OSError):  # not empty: another run has begun here by now
            self.path.rmdir()
        self.close()

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.json"

    def _lock(self, file: BinaryIO) -> None:
        """Take the lock; closing the file releases it. Raises InvalidInput if another run holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.fstat(file.fileno()).st_nlink > 0  # another run has just finished and removed the file
        except BlockingIOError:
            free = False
        if not free:
            raise InvalidInput(f"another run is writing {self.path}; wait for it")

    def _load(self, settings: dict[str, str]) -> Checkpoint:
        try:
            state = msgspec.json.decode(self._checkpoint.read_bytes(), type=Checkpoint)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{self._checkpoint}: {error}; remove {self.path} and begin again") from error
        for name, value in settings.items():
            if state.settings.get(name) != value:
                was = state.settings.get(name)
                raise InvalidInput(f"the interrupted run had {name} {was!r}, this one {value!r}; remove {self.path}")
        return state

    def _reopen(self, name: str) -> BinaryIO:
        """Open a file for appending, truncated to its size in the checkpoint."""
        file = (self.path / name).open("ab")
        size = self.state.sizes[name]
        if file.tell() < size:
            raise InvalidInput(f"{self.path / name} is shorter than its checkpoint says; remove {self.path}")
        file.truncate(size)
        return file

    def _same_space(self, vectors: Vectors) -> None:
        if self.state.space and self.state.space != vectors.space:
            raise InvalidInput(
                f"the model changed in mid-run: rows so far are in space {self.state.space}, new ones in "
                f"{vectors.space}; remove {self.path} and begin again"
            )

    def _save(self, state: Checkpoint) -> None:
        state.sizes = {}
        for name, file in self._files.items():
            file.flush()
            state.sizes[name] = os.fstat(file.fileno()).st_size
        # Not durable, like the files it counts: syncing each chunk could take longer than computing it.
        atomic.write(self._checkpoint, msgspec.json.encode(state), durable=False)
