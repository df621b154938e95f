"""Golden pairs: texts and the original model's vectors, which travel in the bundle."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import Bundle
from embedge.errors import BundleError

__all__ = ["Golden"]

# What NumPy, zipfile and json raise for a damaged file: MemoryError for a size that cannot be, TypeError and
# AttributeError for an array that is no archive.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    MemoryError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Golden:
    """Texts and the original model's vectors for them, (n, dim); texts over the limit were cut."""

    texts: list[str]
    vectors: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Return them as an .npz file without pickles: `texts` is UTF-8 JSON as uint8, `vectors` float32."""
        buffer = io.BytesIO()
        texts = np.frombuffer(json.dumps(self.texts).encode(), dtype=np.uint8)
        np.savez(buffer, texts=texts, vectors=self.vectors)
        return buffer.getvalue()

    @classmethod
    def read(cls, bundle: Bundle) -> Golden:
        """Read the bundle's golden pairs. Raises BundleError."""
        file = bundle.file(bundle.manifest.golden)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                texts = json.loads(arrays["texts"].tobytes())
                vectors = arrays["vectors"]
        except _UNREADABLE as error:
            raise BundleError(f"{file}: the golden pairs cannot be read: {error}; export the bundle again") from error
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise BundleError(f"{file}: the golden texts are no list of texts; export the bundle again")
        if vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise BundleError(f"{file}: the golden vectors are no table of numbers; export the bundle again")
        if len(texts) != len(vectors):
            raise BundleError(f"{file}: {len(texts)} texts but {len(vectors)} vectors; export the bundle again")
        return cls(texts, vectors.astype(np.float32, copy=False))
