"""A bundle on disk: its files, its manifest, and the specs that travel in it."""

from embedge.bundle.bundle import Bundle, bundles, find, sha256

__all__ = ["Bundle", "bundles", "find", "sha256"]
