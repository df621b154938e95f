"""embedge: certified embedding models, in process or served over gRPC, on edge devices and servers.

    from embedge import Embedder

    with Embedder.open("engines/minilm") as embedder:
        vectors = embedder.embed(["a sentence", "another"])  # (2, dim) float32

`Client` and `AsyncClient` have the same methods for a server that `embedge serve` started. Share any of them between
threads. Importing this module loads nothing heavy: backends, gRPC and the like are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from embedge.version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers; `X as X` marks a public name
    from embedge.async_client import AsyncClient as AsyncClient
    from embedge.async_embedder import AsyncEmbedder as AsyncEmbedder
    from embedge.bundle import Bundle as Bundle
    from embedge.bundle.manifest import LabelSet as LabelSet
    from embedge.client import Client as Client
    from embedge.config import RuntimeConfig as RuntimeConfig
    from embedge.content import Audio as Audio
    from embedge.content import Image as Image
    from embedge.content import Text as Text
    from embedge.content import Vector as Vector
    from embedge.content import Video as Video
    from embedge.embedder import Embedder as Embedder
    from embedge.errors import BackendError as BackendError
    from embedge.errors import BundleError as BundleError
    from embedge.errors import DeadlineExceeded as DeadlineExceeded
    from embedge.errors import EmbedgeError as EmbedgeError
    from embedge.errors import InvalidInput as InvalidInput
    from embedge.errors import NotFound as NotFound
    from embedge.errors import Overloaded as Overloaded
    from embedge.errors import Unauthenticated as Unauthenticated
    from embedge.errors import Unavailable as Unavailable
    from embedge.outputs import Codes as Codes
    from embedge.outputs import Gaussian as Gaussian
    from embedge.outputs import MultiVectors as MultiVectors
    from embedge.outputs import Scores as Scores
    from embedge.outputs import Sparse as Sparse
    from embedge.outputs import Vectors as Vectors
    from embedge.repository import Repository as Repository
    from embedge.request import Reply as Reply
    from embedge.request import Request as Request
    from embedge.request import Timings as Timings
    from embedge.scoring.ranking import Ranking as Ranking

# For the interpreter: the public names of each module, imported on first use so that `import embedge` stays cheap.
_NAMES = {
    "async_client": "AsyncClient",
    "async_embedder": "AsyncEmbedder",
    "bundle": "Bundle",
    "bundle.manifest": "LabelSet",
    "client": "Client",
    "config": "RuntimeConfig",
    "content": "Audio Image Text Vector Video",
    "embedder": "Embedder",
    "errors": "BackendError BundleError DeadlineExceeded EmbedgeError InvalidInput NotFound Overloaded Unauthenticated "
    "Unavailable",
    "outputs": "Codes Gaussian MultiVectors Scores Sparse Vectors",
    "repository": "Repository",
    "request": "Reply Request Timings",
    "scoring.ranking": "Ranking",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'embedge' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embedge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
