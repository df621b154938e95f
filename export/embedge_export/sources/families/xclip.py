"""X-CLIP (Ni et al., 2022, arXiv:2208.02816): a text tower and a video tower whose frames exchange messages.

The model folds the frames of all clips into its batch axis; here a row is a clip, so a batch cannot split one. The text
tower computes `get_text_features`. The model's prompts for each pair of a text and a video are left out: they depend on
both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of, unit
from embedge_export.sources.families._dual import text_tower
from embedge_export.sources.families._originals import original, video_reader
from embedge_export.sources.families._towers import model_of, tower, video_input

__all__ = ["load"]


class _XClipVideo(nn.Module):
    """Frames (batch, frames, channels, height, width) to normalized vectors of videos and of their frames."""

    def __init__(self, xclip: Any, front: nn.Module) -> None:
        super().__init__()
        self.front, self.model, self.projection, self.mit = (
            front,
            xclip.vision_model,
            xclip.visual_projection,
            xclip.mit,
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        folded = self.front(pixels).flatten(0, 1)
        frames = self.projection(self.model(folded).pooler_output).unflatten(0, (-1, pixels.shape[1]))
        return unit(self.mit(frames).pooler_output), unit(frames)


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of XCLIPModel and its processor. Raises ExportError."""
    model, processor = pretrained(path, "XCLIPModel"), processor_of(path)
    dim, count = model.config.projection_dim, model.config.vision_config.num_frames
    text, files = text_tower(path, recipe, model, processor, dim=dim)
    prepare, front = video_input(processor.image_processor, count)

    def encode(pixel_values: Tensor) -> dict[str, Tensor]:
        frames = model.visual_projection(model.vision_model(pixel_values[0]).pooler_output)
        return {"dense": unit(model.get_video_features(pixel_values).pooler_output), "frames": unit(frames)[None]}

    video = tower(
        recipe,
        "video",
        prepare,
        _XClipVideo(model, front),
        original(video_reader(processor.image_processor, count), encode),
        space=model.config.model_type,
        dim=dim,
        normalized=True,
        pieces="frames",
    )
    scale = model.logit_scale.exp().item()
    return model_of(path, model, front, {"text": text, "video": video}, files=files, scale=scale)
