"""FLAVA (Singh et al., 2022, arXiv:2112.04482): a text tower and an image tower with one space, and `both`:
one vector of a text with its image, the class token of the multimodal encoder.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from embedge.bundle.output_specs import DenseOutput
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of, unit
from embedge_export.sources.families._fused import FusedEncoder, text_image_and_both

__all__ = ["load"]


class _Flava(FusedEncoder):
    """Projects class tokens only."""

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return unit(self.model.text_projection(states[:, 0]))

    def image(self, pixel_values: Tensor) -> Tensor:
        return unit(self.model.image_projection(self.model.image_model(pixel_values).last_hidden_state[:, 0]))

    def both(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        fused = self.model(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values)
        states: Tensor = fused.multimodal_embeddings
        return states[:, 0]


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of FlavaModel, or of FlavaForPreTraining, and its processor. Raises ExportError."""
    flava, processor = pretrained(path, "FlavaModel"), processor_of(path)
    if not flava.multimodal_model.use_cls_token:
        raise ExportError(f"{path}: this FLAVA fuses without a class token, so a text with an image has no vector")
    dim, dims = flava.config.multimodal_config.hidden_size, recipe.of("both").dims or ()
    return text_image_and_both(
        path,
        recipe,
        processor,
        _Flava(flava),
        dim=flava.config.projection_dim,
        both="both",
        output=DenseOutput(tensor="vector", space="flava-both", dim=dim, normalized=False, dims=dims),
        whole=lambda **inputs: flava(**inputs).multimodal_embeddings[:, 0],
        scale=flava.logit_scale.exp().item(),
    )
