"""Golden pairs: texts and the original model's vectors, which travel in the bundle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import Bundle
from embedge.errors import BundleError

__all__ = ["Golden"]


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
                texts: list[str] = json.loads(arrays["texts"].tobytes())
                vectors: NDArray[np.float32] = arrays["vectors"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{file}: the golden pairs cannot be read: {error}; export the bundle again") from error
        if len(texts) != len(vectors) or not texts:
            raise BundleError(f"{file}: {len(texts)} texts but {len(vectors)} vectors; export the bundle again")
        return cls(texts, vectors)
