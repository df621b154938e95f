"""embedge: trained encoders, proven and served, on edge devices and servers.

    from embedge import Embedder

    with Embedder.open("engines/minilm") as embedder:
        vectors = embedder.embed(["a text", "another"])        # (2, dim) float32

`Client` and `AsyncClient` have the same methods for a server started with `embedge serve`. All of these are safe to
share between threads. Importing this module needs NumPy and the tokenizer library only; backends, gRPC and the like
are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from embedge.version import __version__

if TYPE_CHECKING:
    from embedge.async_client import AsyncClient
    from embedge.async_embedder import AsyncEmbedder
    from embedge.bundle import Bundle
    from embedge.bundle.manifest import LabelSet
    from embedge.client import Client
    from embedge.config import RuntimeConfig
    from embedge.content import Audio, Image, Text, Vector, Video
    from embedge.embedder import Embedder
    from embedge.errors import (
        BackendError,
        BundleError,
        DeadlineExceeded,
        EmbedgeError,
        InvalidInput,
        NotFound,
        Overloaded,
        Unauthenticated,
        Unavailable,
    )
    from embedge.outputs import Codes, Gaussian, MultiVectors, Scores, Sparse, Vectors
    from embedge.repository import Repository
    from embedge.request import Reply, Request, Timings


# Every public name and where it lives; resolved on first use, so that importing embedge stays cheap.
_HOMES = {
    "AsyncClient": "async_client",
    "AsyncEmbedder": "async_embedder",
    "Audio": "content",
    "BackendError": "errors",
    "Bundle": "bundle",
    "BundleError": "errors",
    "Client": "client",
    "Codes": "outputs",
    "DeadlineExceeded": "errors",
    "Embedder": "embedder",
    "EmbedgeError": "errors",
    "Gaussian": "outputs",
    "Image": "content",
    "InvalidInput": "errors",
    "LabelSet": "bundle.manifest",
    "MultiVectors": "outputs",
    "NotFound": "errors",
    "Overloaded": "errors",
    "Reply": "request",
    "Repository": "repository",
    "Request": "request",
    "RuntimeConfig": "config",
    "Scores": "outputs",
    "Sparse": "outputs",
    "Text": "content",
    "Timings": "request",
    "Unauthenticated": "errors",
    "Unavailable": "errors",
    "Vector": "content",
    "Vectors": "outputs",
    "Video": "content",
}

__all__ = [
    "AsyncClient",
    "AsyncEmbedder",
    "Audio",
    "BackendError",
    "Bundle",
    "BundleError",
    "Client",
    "Codes",
    "DeadlineExceeded",
    "Embedder",
    "EmbedgeError",
    "Gaussian",
    "Image",
    "InvalidInput",
    "LabelSet",
    "MultiVectors",
    "NotFound",
    "Overloaded",
    "Reply",
    "Repository",
    "Request",
    "RuntimeConfig",
    "Scores",
    "Sparse",
    "Text",
    "Timings",
    "Unauthenticated",
    "Unavailable",
    "Vector",
    "Vectors",
    "Video",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'embedge' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embedge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
