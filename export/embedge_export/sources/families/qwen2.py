"""Decoders as text encoders, such as Qwen3-Embedding (Zhang et al., 2025, arXiv:2506.05176): the last token's vector.

The recipe sets the instruction and normalization. The tokenizer ends a text as in training, with its end token if it
adds one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of, text_input, unit
from embedge_export.sources.families._originals import ReadTensors, original
from embedge_export.sources.families._towers import model_of, tower
from embedge_export.sources.text import whole
from embedge_export.sources.torch.heads import Pooling

__all__ = ["LastToken", "load", "own_places"]


class LastToken(nn.Module):
    """States (batch, length, dim) and masks to the last state of each row (batch, dim), for padding on either side."""

    def __init__(self, *, normalized: bool) -> None:
        super().__init__()
        self.pool, self.normalized = Pooling(("lasttoken",)), normalized

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors (batch, dim)."""
        found = self.pool({"token_embeddings": states, "attention_mask": attention_mask})
        vectors: Tensor = found["sentence_embedding"]
        return unit(vectors) if self.normalized else vectors


class _Decoder(nn.Module):
    """Token ids and masks to vectors (batch, dim)."""

    def __init__(self, model: Any, last: LastToken) -> None:
        super().__init__()
        self.model, self.last = model, last

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = own_places(attention_mask)
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, use_cache=False)
        vectors: Tensor = self.last(found.last_hidden_state, attention_mask)
        return vectors


def own_places(attention_mask: Tensor) -> Tensor:
    """Return token positions (batch, length), counted without the padding."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of a decoder, or of a language model on it, and its tokenizer. Raises ExportError."""
    model, tokenizer = pretrained(path, "AutoModel"), processor_of(path, "AutoTokenizer")
    text, files = text_input(
        path,
        tokenizer,
        recipe,
        inputs={"ids": "input_ids", "mask": "attention_mask"},
        limit=model.config.max_position_embeddings,
        table=model.config.vocab_size,
        padding_side=tokenizer.padding_side,
        instruction=recipe.of("text").instruction,
    )
    last = LastToken(normalized=bool(recipe.of("text").normalize))

    def encode(input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> dict[str, Tensor]:
        states = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, -1]
        return {"dense": unit(states) if last.normalized else states}

    reads = tower(
        recipe,
        "text",
        text,
        _Decoder(model, last),
        original(_reader(tokenizer, text), encode),
        space=model.config.model_type,
        dim=model.config.hidden_size,
        normalized=last.normalized,
    )
    return model_of(path, model, nn.Identity(), {"text": reads}, files=files)


def _reader(tokenizer: Any, prepare: TextPrepare) -> ReadTensors:
    def read(content: str | Text) -> Any:
        return tokenizer(whole(prepare, content), truncation=True, max_length=prepare.max_length, return_tensors="pt")

    return read
