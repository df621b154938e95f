"""CLAP: a text tower and an audio tower with one space (Wu et al., 2022, arXiv:2211.06687), without feature fusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import Prepare
from embedge_export.errors import ExportError
from embedge_export.model import Original, SourceModel, SpaceSource, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.families._audio import facts, original
from embedge_export.sources.families._common import pretrained, processor_of, text_input, unit
from embedge_export.sources.preprocess.extractors import from_extractor
from embedge_export.sources.text import whole
from embedge_export.sources.torch.graph import TorchGraph, tools

__all__ = ["load"]


class _ClapText(nn.Module):
    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.model, self.projection = clap.text_model, clap.text_projection

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return unit(self.projection(states.pooler_output))


class _ClapAudio(nn.Module):
    def __init__(self, clap: Any, front: nn.Module) -> None:
        super().__init__()
        self.front, self.model, self.projection = front, clap.audio_model, clap.audio_projection

    def forward(self, samples: Tensor) -> Tensor:
        return unit(self.projection(self.model(input_features=self.front(samples)).pooler_output))


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of ClapModel and its processor. Raises ExportError."""
    clap, processor = pretrained(path, "ClapModel"), processor_of(path)
    if clap.config.audio_config.enable_fusion:
        raise ExportError(
            f"{path}: this CLAP fuses random pieces of long clips, which is not supported; export one without fusion"
        )
    text, files = _text_tower(path, recipe, clap, processor.tokenizer)
    definition = weights.definition(clap, path, extractor=facts(processor.feature_extractor))
    dim = clap.config.projection_dim
    return SourceModel(
        kind="clap",
        towers={"text": text, "audio": _audio_tower(recipe, clap, processor.feature_extractor)},
        spaces={"clap": SpaceSource(definition=definition, dim=dim, scale=clap.logit_scale_a.exp().item())},
        files=files,
        hashes=weights.file_hashes(path),
        tools=tools("transformers", "torch", "onnxscript"),
    )


def _text_tower(path: Path, recipe: Recipe, clap: Any, tokenizer: Any) -> tuple[TowerSource, dict[str, bytes]]:
    config = clap.config.text_config
    text, files = text_input(
        path,
        tokenizer,
        recipe,
        inputs={"ids": "input_ids", "mask": "attention_mask"},
        limit=config.max_position_embeddings - config.pad_token_id - 1,
        table=config.vocab_size,
    )

    def read(content: str) -> dict[str, Any]:
        tokens = {"truncation": True, "max_length": text.max_length}
        inputs = tokenizer([whole(text, content)], **tokens, return_tensors="pt")
        with torch.no_grad():
            found = clap.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        return {"dense": found.pooler_output[0].numpy()}

    return _tower(recipe, clap, "text", text, _ClapText(clap), read), files


def _audio_tower(recipe: Recipe, clap: Any, extractor: Any) -> TowerSource:
    audio, front = from_extractor(extractor)
    hear = original(extractor, lambda features: clap.get_audio_features(**features).pooler_output)
    return _tower(recipe, clap, "audio", audio, _ClapAudio(clap, front), hear)


def _tower(recipe: Recipe, clap: Any, name: str, prepare: Prepare, module: nn.Module, ask: Original) -> TowerSource:
    dims, dim = recipe.of(name).dims or (), clap.config.projection_dim
    return TowerSource(
        parts={name: Part(prepare=prepare)},
        graph=TorchGraph(module, ("vector",)),
        outputs={"dense": DenseOutput(tensor="vector", space="clap", dim=dim, normalized=True, dims=dims)},
        original=ask,
    )
