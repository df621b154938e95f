"""Output files of `embedge embed`. Each writer is a pure function of the partial result."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedge import atomic
from embedge.commands.disk import naming
from embedge.commands.embed.partial import Partial, WrittenRow
from embedge.errors import InvalidInput

__all__ = ["FORMATS", "check", "json_line", "write"]

Writer = Callable[[Partial, BinaryIO], None]


def check(path: Path, dtype: str) -> None:
    """Raise InvalidInput if vectors of `dtype` cannot be written to a file of this name here."""
    if path.suffix not in FORMATS:
        raise InvalidInput(f"{path}: cannot tell the format; end the name in {' or '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InvalidInput("Parquet needs pyarrow, which is not installed; pip install 'embedge[parquet]'")
    if path.suffix == ".npy" and dtype == "int8":
        raise InvalidInput("int8 vectors come with a scale each, which .npy has no place for; use .jsonl or .parquet")


def write(partial: Partial, path: Path) -> None:
    """Write the finished file beside its place and put it there in one step; on an error nothing of it stays."""
    draft = path.with_name(path.name + ".new")  # a fixed name: what a killed run left is overwritten
    with naming(path), atomic.replacing(path, draft=draft) as file:
        FORMATS[path.suffix](partial, file)


def json_line(row: WrittenRow, vector: NDArray[np.generic]) -> bytes:
    """Return one line of JSONL for a vector (dim,). Nine digits restore every float32 exactly."""
    numbers = ",".join([f"{number:.9g}" for number in vector.tolist()])
    return b'%b,"vector":[%b]}\n' % (msgspec.json.encode(row)[:-1], numbers.encode())


def _jsonl(partial: Partial, file: BinaryIO) -> None:
    for rows, vectors in partial.rows():
        file.writelines(json_line(row, vector) for row, vector in zip(rows, vectors, strict=True))


def _npy(partial: Partial, file: BinaryIO) -> None:
    """One row per line: row i is line i + 1, and rows of failed lines are zero."""
    state = partial.state
    dtype = np.dtype(state.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (state.lines, state.width)}
    np.lib.format.write_array_header_1_0(file, header)
    done = 0
    for rows, vectors in partial.rows():
        last = rows[-1].line
        block = np.zeros((last - done, state.width), dtype)
        block[[row.line - done - 1 for row in rows]] = vectors
        file.write(block.tobytes())
        done = last
    file.write(bytes((state.lines - done) * state.width * dtype.itemsize))


def _parquet(partial: Partial, file: BinaryIO) -> None:
    """Columns line, id (as text), scale, vector."""
    import pyarrow
    from pyarrow import parquet

    element = pyarrow.from_numpy_dtype(np.dtype(partial.state.dtype))
    fields = {"line": pyarrow.int64(), "id": pyarrow.string(), "scale": pyarrow.float32()}
    schema = pyarrow.schema([*fields.items(), ("vector", pyarrow.list_(element, partial.state.width))])
    with parquet.ParquetWriter(file, schema) as writer:
        for rows, vectors in partial.rows():
            columns = [
                pyarrow.array([row.line for row in rows], pyarrow.int64()),
                pyarrow.array([None if row.id is None else str(row.id) for row in rows], pyarrow.string()),
                pyarrow.array([row.scale for row in rows], pyarrow.float32()),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), partial.state.width),
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))


FORMATS: dict[str, Writer] = {".jsonl": _jsonl, ".npy": _npy, ".parquet": _parquet}
