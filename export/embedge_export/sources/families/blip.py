"""BLIP for retrieval (Li et al., 2022, arXiv:2201.12086): a text tower and an image tower with one space, and `match`:
the probability that a text and an image belong together.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from embedge.bundle.output_specs import ScoresOutput
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of, unit
from embedge_export.sources.families._fused import FusedEncoder, need, text_image_and_both

__all__ = ["load"]

_NAME = "BlipForImageTextRetrieval"


class _Blip(FusedEncoder):
    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.model.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return unit(self.model.text_proj(states[:, 0]))

    def image(self, pixel_values: Tensor) -> Tensor:
        return unit(self.model.vision_proj(self.model.vision_model(pixel_values).last_hidden_state[:, 0]))

    def both(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Return the probability (batch, 1) of a match: the head's second class."""
        logits: Tensor = self.model(input_ids, pixel_values, attention_mask=attention_mask).itm_score
        return logits.softmax(dim=-1)[:, 1:]


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of BlipForImageTextRetrieval and its processor. Raises ExportError."""
    blip, processor = pretrained(path, _NAME), processor_of(path)
    need(path, blip, _NAME)
    return text_image_and_both(
        path,
        recipe,
        processor,
        _Blip(blip),
        dim=blip.config.image_text_hidden_size,
        both="match",
        output=ScoresOutput(tensor="match", labels=("match",)),
        whole=lambda **inputs: blip(**inputs).itm_score.softmax(dim=-1)[:, 1:],
    )
