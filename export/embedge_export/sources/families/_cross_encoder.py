"""Cross-encoders: classifiers that read two texts together and score them (Nogueira and Cho, 2019, arXiv:1901.04085).

A source is a sentence-transformers CrossEncoder, or any transformers model for sequence classification. As in
sentence-transformers, a single score goes through a sigmoid, and several stay logits.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import ScoresOutput
from embedge.content import Text
from embedge_export.errors import ExportError
from embedge_export.model import Original, SourceModel, TowerSource
from embedge_export.quiet import quiet
from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.families._common import text_input
from embedge_export.sources.tokenizer import NO_LIMIT, has_types
from embedge_export.sources.torch.graph import TorchGraph, tools

__all__ = ["load"]

_TOWER = "score"


class _PairScores(nn.Module):
    def __init__(self, model: Any, activation: nn.Module) -> None:
        super().__init__()
        self.model, self.activation = model, activation

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        scores: Tensor = self.activation(self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits)
        return scores


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load the directory. Raises ExportError if it cannot be exported."""
    encoder = _open(path)
    if recipe.max_length is not None:
        encoder.max_seq_length = recipe.max_length
    limit = encoder.max_seq_length or NO_LIMIT
    if limit >= NO_LIMIT:
        raise ExportError(f"{path}: the model has no length limit; set max_length in the recipe")
    inputs = {"ids": "input_ids", "mask": "attention_mask"}
    if _takes_types(encoder):
        inputs["types"] = "token_type_ids"
    table = encoder.model.config.vocab_size
    text, files = text_input(
        path, encoder.tokenizer, recipe, inputs=inputs, limit=limit, table=table, tower=_TOWER, pairs=True
    )
    if text.prompts:
        raise ExportError(f"{path}: a cross-encoder takes no prompt; remove prompts from the recipe")
    tower = TowerSource(
        parts={"text": Part(prepare=text)},
        graph=TorchGraph(_PairScores(encoder.model, encoder.activation_fn), ("scores",)),
        outputs={"scores": ScoresOutput(tensor="scores", labels=_labels(encoder.model.config))},
        original=_original(encoder, text.max_length),
    )
    return SourceModel(
        kind="cross_encoder",
        towers={_TOWER: tower},
        files=files,
        hashes=weights.file_hashes(path),
        tools=tools("sentence-transformers", "transformers", "torch", "onnxscript"),
    )


def _open(path: Path) -> Any:
    pickled = not any(path.glob("*.safetensors"))
    with quiet():
        from sentence_transformers import CrossEncoder

        try:
            encoder = CrossEncoder(str(path), device="cpu", model_kwargs={"dtype": torch.float32}).eval()
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(weights.unreadable(path, "sentence-transformers", error, pickled=pickled)) from error
    names = [type(module).__name__ for module in encoder]
    if names != ["Transformer"] or encoder.model is None:
        raise ExportError(
            f"{path}: a cross-encoder of {', '.join(names)} cannot be exported; only a single Transformer can"
        )
    if any((encoder.prompts or {}).values()):
        raise ExportError(f"{path}: the cross-encoder puts prompts before its texts, which is not supported")
    return encoder


def _takes_types(encoder: Any) -> bool:
    takes = "token_type_ids" in inspect.signature(encoder.model.forward).parameters
    given = "token_type_ids" in encoder.tokenizer.model_input_names
    return takes and given and has_types(encoder.tokenizer.backend_tokenizer.to_str(), pair=True)


def _labels(config: Any) -> tuple[str, ...]:
    """Return the names of the scores; a single unnamed one is `score`."""
    names = [str(config.id2label.get(place, f"LABEL_{place}")) for place in range(config.num_labels)]
    return ("score",) if names == ["LABEL_0"] else tuple(names)


def _original(encoder: Any, max_length: int) -> Original:
    """Return the library's own scoring of pairs. A lone text, unsupported there, goes through the same parts."""

    def score(content: str | Text) -> dict[str, Any]:
        if isinstance(content, Text) and content.pair is not None:
            scores = encoder.predict([(content.text, content.pair)], show_progress_bar=False)[0]
            return {"scores": np.atleast_1d(scores)}
        text = content.text if isinstance(content, Text) else content
        tokens = encoder.tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            return {"scores": encoder.activation_fn(encoder.model(**tokens).logits)[0].numpy()}

    return score
