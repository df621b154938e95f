"""sentence-transformers directories of any kind, with every module in modules.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embedge.bundle.part_specs import TextPrepare
from embedge.content import Image
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel, TowerSource
from embedge_export.quiet import quiet
from embedge_export.recipe import Recipe
from embedge_export.sources import families, weights
from embedge_export.sources.originals import picture
from embedge_export.sources.sentence_transformers import files as sentence_files

__all__ = ["fits", "load"]


def fits(path: Path) -> bool:
    """Return whether `path` is a sentence-transformers directory of vectors; scorers of pairs are a family."""
    return (path / "modules.json").is_file() and not families.is_cross_encoder(path)


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Load the directory. Raises ExportError if its modules, pooling or weights cannot be exported."""
    if (family := sentence_files.family_of(path)) is not None:
        return _family(path, family, recipe, allow_pickle=allow_pickle)
    pickled = sentence_files.check(path, allow_pickle=allow_pickle)
    from embedge_export.sources.sentence_transformers.towers import model_of

    return model_of(_open(path, pickled=pickled), path, recipe)


def _open(path: Path, *, pickled: bool) -> Any:
    kind = sentence_files.kind_of(path)
    with quiet():
        import sentence_transformers
        import torch

        try:
            reader = getattr(sentence_transformers, kind)
            model = reader(str(path), device="cpu", model_kwargs={"dtype": torch.float32})
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(weights.unreadable(path, "sentence-transformers", error, pickled=pickled)) from error
    return model.eval()


def _family(path: Path, directory: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Return the towers of the only module's family, with sentence-transformers itself as the original.

    Vectors have length 1, as the family's do; sentence-transformers normalizes on request.
    """
    towers = families.load(directory, recipe, allow_pickle=allow_pickle)
    model = _open(path, pickled=False)
    held = {name: replace(tower, original=_FamilyOriginal(model, tower)) for name, tower in towers.towers.items()}
    return replace(towers, kind="sentence_transformers", towers=held, hashes=weights.file_hashes(path))


class _FamilyOriginal:
    """The original of a family's tower: `encode` of sentence-transformers on one text or image."""

    def __init__(self, model: Any, tower: TowerSource) -> None:
        self._model = model
        self._prefix = ""
        self._cut: dict[str, dict[str, int]] = {}
        for part in tower.parts.values():
            if isinstance(part.prepare, TextPrepare):
                self._prefix = part.prepare.prompts.get(part.prepare.default_prompt or "", "")
                self._cut = {"text": {"max_length": part.prepare.max_length}}

    def __call__(self, item: Any) -> dict[str, Any]:
        content = picture(item) if isinstance(item, Image) else self._prefix + item
        with quiet():
            vector = self._model.encode(
                content, processing_kwargs=self._cut, normalize_embeddings=True, show_progress_bar=False
            )
        return {"dense": np.asarray(vector, dtype=np.float32)}
