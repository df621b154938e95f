"""The manifest: what a bundle holds and how to run it (JSON, format version 1).

`export` writes it, the runtime owns its meaning. Parsing is strict: an unknown key or format version is an
error that says what to do, because a key that is silently skipped would be a vector that is silently wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.bundle.checks import check
from embedge.bundle.records import (
    Buckets,
    Certificate,
    Chain,
    Graph,
    LabelSet,
    Manifest,
    Metric,
    Part,
    Provenance,
    SetSpec,
    Space,
    TensorSpec,
    Tower,
)
from embedge.errors import BundleError

FORMAT = 1
FILE_NAME = "manifest.json"

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "Buckets",
    "Certificate",
    "Chain",
    "Graph",
    "LabelSet",
    "Manifest",
    "Metric",
    "Part",
    "Provenance",
    "SetSpec",
    "Space",
    "TensorSpec",
    "Tower",
    "decode",
    "encode",
]


def decode(data: bytes, *, where: str) -> Manifest:
    """Parse and check a manifest.

    Args:
        data: JSON bytes.
        where: name of the file, for messages.

    Raises:
        BundleError: the manifest is malformed, contradicts itself or has another format version.
    """
    try:
        head: Any = msgspec.json.decode(data)
        version = head.get("format") if isinstance(head, dict) else None
        if version != FORMAT:
            raise BundleError(
                f"{where}: manifest format {version!r} is not known to this embedge, which reads format {FORMAT}; "
                "upgrade embedge or export the bundle again"
            )
        manifest = msgspec.convert(head, Manifest)
    except RecursionError as error:
        raise BundleError(f"{where}: not a valid manifest: nested too deeply; export the bundle again") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{where}: not a valid manifest: {error}; export the bundle again") from error
    try:
        check(manifest)
    except BundleError as error:
        raise BundleError(f"{where}: {error.message}; export the bundle again") from None
    return manifest


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
