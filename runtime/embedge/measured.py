"""What one start measured and the next may use: how the cores are cut into lanes, and what batches cost."""

from __future__ import annotations

import msgspec

from embedge import cache
from embedge.backends import Backend
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.slots import Slots, cores, device

__all__ = ["Measured"]

_KIND = "cost"


class Measured(msgspec.Struct, frozen=True):
    """A record in the cache. It holds for one device, its cores, the settings, the backend's version and the graphs."""

    slots: Slots
    rows: list[int]
    lengths: list[int]
    seconds: list[list[float]]

    @staticmethod
    def key(bundle: Bundle, backend: Backend, config: RuntimeConfig) -> str:
        """Return the record's name."""
        graphs = sorted(graph.sha256 for graph in bundle.manifest.graphs.values())
        return cache.key(device(), cores(), config.lanes, config.threads, backend.name, backend.version(), *graphs)

    @classmethod
    def recall(cls, key: str) -> Measured | None:
        """Return the record of an earlier start, or None where there is none that makes sense."""
        return cache.load(_KIND, key, cls)

    def keep(self, key: str) -> None:
        """Write the record for the next start."""
        cache.save(_KIND, key, self)
