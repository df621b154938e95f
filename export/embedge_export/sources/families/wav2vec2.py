"""wav2vec 2.0 (Baevski et al., 2020, arXiv:2006.11477): the mean of its states, padding excluded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._audio import VectorTower, one_tower
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.preprocess.extractors import from_extractor

__all__ = ["load"]


class _Wav2Vec2Audio(VectorTower):
    """Padded samples and masks to vectors, each as if its clip were alone.

    Convolutions without padding compute the same frames in a padded batch. Group normalization over time does not, so
    its statistics cover a clip's own frames only, as the original's do for a lone clip.
    """

    def __init__(self, recipe: Recipe, front: nn.Module, model: Any) -> None:
        super().__init__(recipe)
        self.front, self.model = front, model

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        hidden, count = self.front(samples, samples_mask)[:, None], samples_mask.sum(dim=1)
        for layer in self.model.feature_extractor.conv_layers:
            conv = layer.conv
            count = torch.div(count - conv.kernel_size[0], conv.stride[0], rounding_mode="floor") + 1
            normalizes = isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm)
            hidden = _by_channel(layer, hidden, count) if normalizes else layer(hidden)
        own = (torch.arange(hidden.shape[2], device=count.device) < count[:, None]).to(hidden.dtype)
        hidden, _ = self.model.feature_projection(hidden.transpose(1, 2))
        states = self._encode(hidden * own[..., None], own)
        return self.finish((states * own[..., None]).sum(dim=1) / count[:, None])

    def _encode(self, hidden: Tensor, own: Tensor) -> Tensor:
        """Run the model's encoder. Its own forward zeroes frames by index, which TensorRT lacks."""
        encoder, last = self.model.encoder, self.model.config.do_stable_layer_norm
        hidden = hidden + encoder.pos_conv_embed(hidden)
        hidden = hidden if last else encoder.layer_norm(hidden)
        bias = ((1.0 - own) * torch.finfo(hidden.dtype).min)[:, None, None]
        for layer in encoder.layers:
            hidden = layer(hidden, attention_mask=bias)
        return encoder.layer_norm(hidden) if last else hidden


def _by_channel(layer: Any, hidden: Tensor, count: Tensor) -> Tensor:
    """Run a layer with group normalization of one channel per group, over the first `count` frames."""
    frames, norm = layer.conv(hidden), layer.layer_norm
    own = torch.arange(frames.shape[2], device=count.device) < count[:, None, None]
    number = count[:, None, None]
    centred = frames - (frames * own).sum(dim=2, keepdim=True) / number
    variance = (centred * own).square().sum(dim=2, keepdim=True) / number
    scaled = centred / (variance + norm.eps).sqrt() * norm.weight[:, None] + norm.bias[:, None]
    return layer.activation(scaled)  # type: ignore[no-any-return]  # transformers is untyped there


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of Wav2Vec2Model, or of a head on it, and its feature extractor. Raises ExportError."""
    model, extractor = pretrained(path, "Wav2Vec2Model"), processor_of(path, "AutoFeatureExtractor")
    prepare, front = from_extractor(extractor)
    layers = model.feature_extractor.conv_layers
    least = 1  # samples of one frame
    for layer in reversed(layers):
        least = (least - 1) * layer.conv.stride[0] + layer.conv.kernel_size[0]
    prepare = msgspec.structs.replace(prepare, min_seconds=least / prepare.rate)
    return one_tower(
        path,
        recipe,
        kind="wav2vec2",
        model=model,
        tower=_Wav2Vec2Audio(recipe, front, model),
        prepare=prepare,
        extractor=extractor,
        encode=lambda features: model(features["input_values"]).last_hidden_state.mean(dim=1),
        dim=model.config.hidden_size,
    )
