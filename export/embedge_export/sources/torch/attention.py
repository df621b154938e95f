"""Attention for tracing: the eager form, with one small row per text as the padding mask.

transformers makes a (batch, 1, length, length) mask with gathers over both axes. With full attention,
(batch, 1, 1, length) is equivalent and cheaper to make and to add, and engine builders fuse it. Causal and sliding
masks stay as the model makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["eager_attention"]


@contextmanager
def eager_attention(backbone: Any) -> Iterator[None]:
    """Switch a transformers model to eager attention with small masks, and back."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    before = getattr(backbone.config, "_attn_implementation", None)
    original = MASKS["eager"]
    MASKS["eager"] = _small_mask
    try:
        if before != "eager":
            backbone.set_attn_implementation("eager")
        yield
    finally:
        MASKS["eager"] = original
        if before not in (None, "eager"):
            backbone.set_attn_implementation(before)


def _small_mask(*, mask_function: Any, attention_mask: Tensor | None, dtype: torch.dtype, **rest: Any) -> Tensor | None:
    """Return the additive mask (batch, 1, 1, length): 0 for tokens, the lowest number of `dtype` for padding."""
    from transformers.masking_utils import bidirectional_mask_function, eager_mask

    if mask_function is not bidirectional_mask_function or attention_mask is None:
        made: Tensor | None = eager_mask(
            mask_function=mask_function, attention_mask=attention_mask, dtype=dtype, **rest
        )
        return made
    hidden = (1 - attention_mask.to(dtype))[:, None, None, :]
    return hidden * torch.finfo(dtype).min
