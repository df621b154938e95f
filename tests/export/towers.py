"""Small models of several towers with random weights, saved as a user has them: a directory with its processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedge_export.quiet import quiet
from tests.export.models import tokenizer

__all__ = [
    "LANGUAGES",
    "align",
    "clip",
    "dinov2",
    "dinov2_with_registers",
    "metaclip_2",
    "siglip",
    "timesformer",
    "videomae",
    "vit",
    "xclip",
]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,  # wide, so that neighbours and padding would show
}

_PATCHES: dict[str, Any] = {**_SIZES, "image_size": 32, "patch_size": 8}

LANGUAGES = (
    "a red boat on the lake",
    "ein rotes Boot auf dem See",
    "un bateau rouge sur le lac à midi",
    "озёрная лодка",
    "湖上的红船",
    "赤いボート",
    "호수 위의 빨간 배",
    "قارب أحمر",
    "झील पर लाल नाव",
    "κόκκινη βάρκα",
)


def clip(path: Path, *, seed: int = 0, longest: int = 40) -> Path:
    """Save a random CLIPModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import CLIPImageProcessor, CLIPProcessor

        words = tokenizer()
        config = {"text_config": _text(words, longest), "vision_config": _PATCHES, "projection_dim": 24}
        return _saved(
            path, "CLIP", config, CLIPProcessor(image_processor=_square(CLIPImageProcessor), tokenizer=words), seed
        )


def metaclip_2(path: Path) -> Path:
    """Save a random MetaClip2Model with its processor in `path`, and return it."""
    with quiet():
        from transformers import CLIPImageProcessor, CLIPProcessor

        words = _letters()
        config = {"text_config": _text(words, 40), "vision_config": _PATCHES, "projection_dim": 24}
        return _saved(
            path, "MetaClip2", config, CLIPProcessor(image_processor=_square(CLIPImageProcessor), tokenizer=words)
        )


def siglip(path: Path) -> Path:
    """Save a random SiglipModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import SiglipImageProcessor, SiglipProcessor

        words = tokenizer(model_input_names=["input_ids"], model_max_length=64)
        config = {"text_config": _text(words, 64), "vision_config": _PATCHES}
        images = SiglipImageProcessor(size={"height": 32, "width": 32})
        return _saved(path, "Siglip", config, SiglipProcessor(image_processor=images, tokenizer=words))


def align(path: Path) -> Path:
    """Save a random AlignModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import AlignProcessor, EfficientNetImageProcessor

        words = tokenizer()
        vision = {
            "image_size": 64,
            "hidden_dim": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.25,
            "initializer_range": 0.3,
        }
        config = {"text_config": _text(words, 80), "vision_config": vision, "projection_dim": 80}
        images = EfficientNetImageProcessor(size={"height": 64, "width": 64})
        return _saved(path, "Align", config, AlignProcessor(image_processor=images, tokenizer=words))


def vit(path: Path) -> Path:
    """Save a random ViTModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import ViTImageProcessor

        return _saved(path, "ViT", _PATCHES, ViTImageProcessor(size={"height": 32, "width": 32}))


def dinov2(path: Path, kind: str = "Dinov2") -> Path:
    """Save a random Dinov2Model with its processor in `path`, and return it. It is made for larger images."""
    with quiet():
        from transformers import BitImageProcessor

        return _saved(path, kind, {**_PATCHES, "image_size": 56}, _square(BitImageProcessor))


def dinov2_with_registers(path: Path) -> Path:
    """Save a random Dinov2WithRegistersModel with its processor in `path`, and return it."""
    return dinov2(path, "Dinov2WithRegisters")


def videomae(path: Path) -> Path:
    """Save a random VideoMAEModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import VideoMAEImageProcessor

        return _saved(path, "VideoMAE", {**_PATCHES, "num_frames": 8}, _square(VideoMAEImageProcessor))


def timesformer(path: Path, attention: str = "divided_space_time") -> Path:
    """Save a random TimesformerModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import VideoMAEImageProcessor

        config = {**_PATCHES, "num_frames": 8, "attention_type": attention}
        return _saved(path, "Timesformer", config, _square(VideoMAEImageProcessor))


def xclip(path: Path) -> Path:
    """Save a random XCLIPModel with its processor in `path`, and return it."""
    with quiet():
        from transformers import VideoMAEImageProcessor, XCLIPProcessor

        words = tokenizer()
        integration = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 1}
        vision = {
            **_PATCHES,
            "num_frames": 8,
            "initializer_factor": 4.0,
            **{f"mit_{name}": value for name, value in integration.items()},
        }
        config = {
            "text_config": _text(words, 40),
            "vision_config": vision,
            "projection_dim": 24,
            "prompt_num_attention_heads": 4,
        }
        return _saved(path, "XCLIP", config, XCLIPProcessor(_square(VideoMAEImageProcessor), words))


def _letters() -> Any:
    """Return a tokenizer as MetaCLIP 2 has it, that knows a letter at a time: those of `LANGUAGES`."""
    from transformers import XLMRobertaTokenizer

    letters = sorted({*"".join(LANGUAGES), *map(chr, range(33, 127)), "▁"} - {" "})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    return XLMRobertaTokenizer(vocab=[(piece, 0.0) for piece in pieces], model_max_length=40)


def _saved(path: Path, kind: str, config: dict[str, Any], processor: Any, seed: int = 0) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config)).eval()
    if kind == "Siglip":  # as SigLIP begins its training; the library begins at 0
        torch.nn.init.constant_(model.logit_scale, 2.3)
        torch.nn.init.constant_(model.logit_bias, -10.0)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def _text(words: Any, longest: int) -> dict[str, Any]:
    return {
        **_SIZES,
        "vocab_size": len(words),
        "max_position_embeddings": longest,
        "eos_token_id": words.sep_token_id,
        "bos_token_id": words.cls_token_id,
        "pad_token_id": words.pad_token_id,
    }


def _square(kind: Any) -> Any:
    return kind(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
