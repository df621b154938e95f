"""The models of a server. The port is bound before they are loaded."""

from __future__ import annotations

from embedge.embedder import Embedder
from embedge.errors import Unavailable
from embedge.repository import Repository

__all__ = ["Models"]


class Models:
    """The repository once it is loaded. Used on the event loop only."""

    def __init__(self) -> None:
        self.repository: Repository | None = None

    @property
    def loaded(self) -> Repository:
        """The repository. Raises Unavailable until it is loaded."""
        if self.repository is None:
            raise Unavailable("the server is still loading its models; try again when its health says SERVING")
        return self.repository

    def get(self, name: str) -> Embedder:
        """Return a model. Raises NotFound, or Unavailable until all are loaded."""
        return self.loaded.get(name)

    def all(self) -> list[Embedder]:
        """Return all models. Raises Unavailable until they are loaded."""
        return list(self.loaded)
