"""Descriptions of a tower's parts and their limits for clients."""

from __future__ import annotations

from typing import Any

from embedge.bundle.manifest import Part, SetSpec
from embedge.bundle.part_specs import (
    AudioPrepare,
    Column,
    ImagePrepare,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    VectorPrepare,
    VideoPrepare,
)
from embedge.config import RuntimeConfig
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.tensors import DTYPE_NUMBERS

__all__ = ["part_info"]


def part_info(name: str, part: Part, config: RuntimeConfig) -> pb.PartInfo:
    """Describe a part."""
    info = pb.PartInfo(name=name, modality=part.modality, optional=part.optional)
    if part.set is not None:
        info.set.CopyFrom(_set(part.set))
    spec = part.prepare
    if isinstance(spec, TextPrepare):
        info.max_length, info.max_bytes = spec.max_length, config.max_text_bytes
        info.prompts.extend(sorted(spec.prompts))
        info.text.CopyFrom(_text(spec))
    elif isinstance(spec, TensorPrepare):
        info.max_length = spec.max_length if any(isinstance(size, str) for size in spec.shape) else 0
        info.tensor.CopyFrom(_tensor(spec))
    elif isinstance(spec, TablePrepare):
        info.table.columns.extend(map(_column, spec.columns))
    elif isinstance(spec, VectorPrepare):
        info.vector.CopyFrom(pb.VectorInfo(dim=spec.dim, space=spec.space or ""))
    else:
        info.max_bytes = config.max_media_bytes
        _fill_media(info, spec, config)
    return info


def _set(spec: SetSpec) -> pb.SetInfo:
    return pb.SetInfo(
        tower=spec.tower,
        output=spec.output,
        pool=spec.pool or "",
        max_pieces=spec.max_pieces,
        prompt=spec.prompt or "",
    )


def _fill_media(info: pb.PartInfo, spec: ImagePrepare | AudioPrepare | VideoPrepare, config: RuntimeConfig) -> None:
    if isinstance(spec, ImagePrepare):
        info.image.CopyFrom(_image(spec, config))
    elif isinstance(spec, AudioPrepare):
        info.audio.CopyFrom(_audio(spec))
    else:
        info.video.CopyFrom(_video(spec, config))


def _text(spec: TextPrepare) -> pb.TextInfo:
    return pb.TextInfo(
        default_prompt=spec.default_prompt or "",
        pairs=spec.pairs,
        instruction=spec.instruction or "",
        languages=sorted(spec.languages),
        default_language=spec.default_language or "",
        allow_empty=spec.allow_empty,
    )


def _image(spec: ImagePrepare, config: RuntimeConfig) -> pb.ImageInfo:
    return pb.ImageInfo(height=spec.height, width=spec.width, mode=spec.mode, max_pixels=config.max_image_pixels)


def _audio(spec: AudioPrepare) -> pb.AudioInfo:
    windows = spec.max_windows if spec.hop_seconds else 1
    return pb.AudioInfo(
        rate=spec.rate,
        min_seconds=spec.min_seconds,
        max_seconds=spec.max_seconds,
        hop_seconds=spec.hop_seconds or 0.0,
        max_windows=windows,
    )


def _video(spec: VideoPrepare, config: RuntimeConfig) -> pb.VideoInfo:
    return pb.VideoInfo(
        image=_image(spec.image, config),
        frames=spec.frames,
        sampling=spec.sampling,
        stride=spec.stride,
        fps=spec.fps,
        max_seconds=spec.max_seconds,
    )


def _tensor(spec: TensorPrepare) -> pb.TensorInfo:
    shape = [pb.Axis(size=size) if isinstance(size, int) else pb.Axis(symbol=size) for size in spec.shape]
    return pb.TensorInfo(dtype=DTYPE_NUMBERS[spec.dtype], shape=shape, missing=spec.missing == "mask", **_bounds(spec))


def _column(column: Column) -> pb.ColumnInfo:
    return pb.ColumnInfo(name=column.name, categories=column.categories, missing=column.missing, **_bounds(column))


def _bounds(spec: TensorPrepare | Column) -> dict[str, Any]:
    return {"minimum": spec.minimum, "maximum": spec.maximum}
