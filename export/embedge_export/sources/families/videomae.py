"""VideoMAE (Tong et al., 2022, arXiv:2203.12602) and TimeSformer (Bertasius et al., 2021, arXiv:2102.05095): a video's
vector and its frames' vectors from one pass.

VideoMAE's vector is the mean of its states, the pooling of its classifier; TimeSformer's is its class token. A frame's
vector is the mean over its patches; VideoMAE has one for every tube of frames (2 in the published models).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from embedge_export.errors import ExportError
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.families._originals import video_reader
from embedge_export.sources.families._single import PoolStates, one_tower
from embedge_export.sources.families._towers import video_input

__all__ = ["load"]


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of VideoMAEModel or TimesformerModel, or of a classifier on it, and its image processor.

    Raises ExportError.
    """
    model, processor = pretrained(path, "AutoModel"), processor_of(path, "AutoImageProcessor")
    pool, count = _POOLS[model.config.model_type](model.config), model.config.num_frames
    prepare, front = video_input(processor, count)
    read = video_reader(processor, count)
    return one_tower(
        path, recipe, "video", model=model, prepare=prepare, front=front, read=read, pool=pool, pieces="frames"
    )


def _tubes(config: Any) -> PoolStates:
    """Pool states that lie tube by tube, the patches of each in order."""
    count = config.num_frames // config.tubelet_size
    return lambda states: (states.mean(dim=1), torch.unflatten(states, 1, (count, -1)).mean(dim=2))


def _frames(config: Any) -> PoolStates:
    """Pool states that begin with the class token; then, patch by patch, that patch in every frame."""
    if config.attention_type == "space_only":
        raise ExportError("this TimeSformer encodes frames one by one, so a video has no vector; export it as a ViT")
    return lambda states: (
        states[:, 0],
        torch.unflatten(states[:, 1:], 1, (-1, config.num_frames)).mean(dim=1),
    )


_POOLS = {"timesformer": _frames, "videomae": _tubes}
