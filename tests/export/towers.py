"""Small models of several towers with random weights, saved as a user has them: a directory with its processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedge_export.quiet import quiet
from tests.export.models import tokenizer

__all__ = ["clip"]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,  # wide, so that neighbours and padding would show
}


def clip(path: Path, *, seed: int = 0, longest: int = 40) -> Path:
    """Save a random CLIPModel with its processor in `path`, and return it."""
    with quiet():
        import torch
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

        torch.manual_seed(seed)
        words = tokenizer()
        text = {
            **_SIZES,
            "vocab_size": words.vocab_size,
            "max_position_embeddings": longest,
            "eos_token_id": words.sep_token_id,
            "bos_token_id": words.cls_token_id,
            "pad_token_id": words.pad_token_id,
        }
        vision = {**_SIZES, "image_size": 32, "patch_size": 8}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        CLIPModel(config).eval().save_pretrained(path)
        images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        CLIPProcessor(image_processor=images, tokenizer=words).save_pretrained(path)
    return path
