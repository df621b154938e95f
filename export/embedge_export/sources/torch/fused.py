"""A text encoder and its heads as one torch module, with the graph's inputs as arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embedge_export.sources.tokenizer import has_types
from embedge_export.sources.torch.heads import Features, Keep, describe

__all__ = ["Fused", "fuse"]


class Fused(nn.Module):
    """A backbone and its heads: inputs (batch, length) to the features named in `outputs`.

    If token types are always zero, a single zero stands for all tokens: it broadcasts, and folds to a constant. Without
    a backbone, heads read the ids themselves.
    """

    def __init__(
        self,
        backbone: nn.Module | None,
        heads: Sequence[nn.Module],
        *,
        zero_types: bool = False,
        outputs: Sequence[str] = ("sentence_embedding",),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)
        self.zero_types = zero_types
        self.outputs = tuple(outputs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        lang_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the features of int64 inputs (batch, length) and languages (batch,). No mask: every token counts."""
        given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "lang_ids": lang_ids}
        extra = {name: tensor for name, tensor in given.items() if tensor is not None}
        if token_type_ids is None and self.zero_types:
            extra["token_type_ids"] = torch.zeros((1, 1), dtype=torch.long)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        features: Features = {"input_ids": input_ids, "attention_mask": mask}
        if self.backbone is not None:
            features["token_embeddings"] = self.backbone(input_ids=input_ids, **extra)[0]
        for head in self.heads:
            features = head(features)
        return tuple(features[name] for name in self.outputs)

    def described(self) -> list[list[Any]]:
        """Return the type and settings of each head that defines the space; tensors are hashed apart."""
        return [describe(head) for head in self.heads if not isinstance(head, Keep)]


def fuse(
    backbone: Any, heads: Sequence[nn.Module], tokenizer: str, *, languages: bool = False, **settings: Any
) -> tuple[dict[Any, str], Fused]:
    """Return the graph's inputs by role, and backbone and heads as one module. `settings` goes to `Fused`.

    Token types are an input only if the tokenizer assigns types other than 0 to a single text.
    """
    inputs = {"ids": "input_ids", "mask": "attention_mask"} | ({"language": "lang_ids"} if languages else {})
    takes_types = "token_type_ids" in inspect.signature(backbone.forward).parameters
    types_matter = takes_types and getattr(backbone.config, "type_vocab_size", 0) > 0
    if types_matter and has_types(tokenizer):
        return {**inputs, "types": "token_type_ids"}, Fused(backbone, heads, **settings)
    return inputs, Fused(backbone, heads, zero_types=types_matter, **settings)
