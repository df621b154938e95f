"""The engine repository: a directory of models, each with versions. The newest version of each is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from embedge import bundle
from embedge.bundle import manifest
from embedge.cancel import CancelToken
from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge.errors import BundleError, NotFound

__all__ = ["Repository"]


class Repository:
    """The open models of a directory, by name. The directory may be read-only."""

    def __init__(self, embedders: dict[str, Embedder]) -> None:
        self._embedders = embedders

    @classmethod
    def open(
        cls,
        root: str | Path,
        *,
        config: RuntimeConfig | None = None,
        models: Sequence[str] | None = None,
        cancel: CancelToken | None = None,
    ) -> Repository:
        """Open every model in `root`, or the named ones.

        Args:
            root: A directory of models, or of one model or bundle.
            config: The settings of each model; None means the defaults.
            models: Names of the models to open; None opens all.
            cancel: Ends the opening early with `Unavailable`.

        Raises:
            NotFound: A named model is missing.
            BundleError: The directory holds no bundles, or two of one name.
            EmbedgeError: A model can't be opened; see `Embedder`.
        """
        cancel = cancel or CancelToken()
        found = scan(Path(root))
        for name in models or ():
            if name not in found:
                raise NotFound(f"{root}: holds no model {name!r}; it has: {', '.join(sorted(found))}")
        repository = cls({})
        try:
            for name in dict.fromkeys(models or sorted(found)):
                cancel.check()
                repository._add(Embedder.open(found[name], config=config, cancel=cancel))
        except BaseException:
            repository.close()
            raise
        return repository

    def _add(self, embedder: Embedder) -> None:
        other = self._embedders.setdefault(embedder.name, embedder)
        if other is not embedder:
            embedder.close()
            raise BundleError(
                f"{embedder.bundle.path} and {other.bundle.path} both have the name {embedder.name!r}; "
                "remove one, or export it under another name"
            )

    def get(self, name: str) -> Embedder:
        """Return an open model; an empty name means the only one. Raises NotFound, and names the open models."""
        if not name and len(self._embedders) == 1:
            return next(iter(self._embedders.values()))
        if name not in self._embedders:
            raise NotFound(f"model {name!r} is unknown; this server has: {', '.join(self.names())}")
        return self._embedders[name]

    def names(self) -> list[str]:
        """Return the names of the open models, sorted."""
        return sorted(self._embedders)

    def __iter__(self) -> Iterator[Embedder]:
        return iter(self._embedders.values())

    def close(self) -> None:
        """Close every model."""
        for embedder in self._embedders.values():
            embedder.close()


def scan(root: Path) -> dict[str, Path]:
    """Return the newest bundle of every model under `root`, by model name. Raises BundleError if it finds none."""
    if not root.is_dir():
        raise BundleError(f"{root}: no such directory; name an engine repository, or make one with 'embedge export'")
    if (root / manifest.FILE_NAME).is_file() or bundle.bundles(root, "*"):
        path = bundle.find(root)
        return {bundle.Bundle.load(path, verify=False).manifest.name: path}
    models = sorted({path.parent for path in bundle.bundles(root, "*/*")})
    if not models:
        raise BundleError(f"{root}: holds no bundles; make one with 'embedge export SOURCE --out {root}'")
    return {model.name: bundle.find(model) for model in models}
