"""Feature extractors of transformers, read: how a clip is prepared for them, and what they compute as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from transformers.audio_utils import mel_filter_bank, window_function

from embedge.bundle.part_specs import AudioPrepare
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.sources.preprocess.audio import (
    AstFront,
    ClapFront,
    MelPower,
    RawFront,
    UnitVariance,
    Unscaled,
    WhisperFront,
)

__all__ = ["from_extractor"]

_ClipInputs = dict[Literal["samples", "mask", "length"], str]
_SAMPLES: _ClipInputs = {"samples": "samples"}
_MASKED: _ClipInputs = {"samples": "samples", "mask": "samples_mask"}
_MEASURED: _ClipInputs = {"samples": "samples", "length": "samples_length"}

# What ASTFeatureExtractor has in its code: 25 ms of Kaldi's frames at 16 kHz, every 10 ms.
_AST_SIZE, _AST_HOP, _AST_FFT = 400, 160, 512
_AST_LOWEST = 20.0
_AST_PREEMPHASIS = 0.97
_CLAP_FILLS: dict[str, Any] = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "zero"}


def from_extractor(extractor: Any, *, max_seconds: float = 30.0) -> tuple[AudioPrepare, nn.Module]:
    """Return how to prepare clips, and the module that takes what is prepared, by the names of its inputs.

    max_seconds: the longest clip, for extractors that name none. Raises ExportError for what is not supported.
    """
    kind = type(extractor).__name__
    if kind not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise ExportError(f"clips cannot be prepared as {kind} does; known are {known}")
    if extractor.padding_value:
        raise ExportError(f"{kind} pads with {extractor.padding_value}; only 0 is supported")
    return _READERS[kind](extractor, max_seconds)


def _whisper(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.dither:
        raise ExportError("WhisperFeatureExtractor adds noise (dither), so no two of its vectors agree; set it to 0")
    window = window_function(extractor.n_fft, "hann")
    power = MelPower(window, extractor.mel_filters, hop=extractor.hop_length, drop=1)
    prepare = AudioPrepare(
        inputs=_SAMPLES, rate=extractor.sampling_rate, max_seconds=extractor.chunk_length, fixed=True
    )
    return prepare, WhisperFront(power)


def _clap(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.truncation != "rand_trunc":
        raise ExportError(
            f"ClapFeatureExtractor with truncation={extractor.truncation!r} picks at random what it embeds; "
            "only rand_trunc is supported, which is exact for clips up to its limit"
        )
    if extractor.padding not in _CLAP_FILLS:
        raise ExportError(f"ClapFeatureExtractor fills clips up with {extractor.padding!r}, which is not supported")
    window = window_function(extractor.fft_window_size, "hann")
    power = MelPower(window, extractor.mel_filters_slaney, hop=extractor.hop_length)
    prepare = AudioPrepare(
        inputs=_SAMPLES,
        rate=extractor.sampling_rate,
        max_seconds=extractor.max_length_s,
        fixed=True,
        fill=_CLAP_FILLS[extractor.padding],
    )
    return prepare, ClapFront(power)


def _ast(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    rate = extractor.sampling_rate
    if rate != 16_000:
        raise ExportError(f"ASTFeatureExtractor at {rate:,} Hz is not supported: its frames are made for 16,000")
    with quiet():  # of 128 bands, the usual number, the lowest hold no frequency, and a warning says so
        filters = mel_filter_bank(
            num_frequency_bins=_AST_FFT // 2 + 1,
            num_mel_filters=extractor.num_mel_bins,
            min_frequency=_AST_LOWEST,
            max_frequency=rate // 2,
            sampling_rate=rate,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    window = window_function(_AST_SIZE, "hann", periodic=False)
    power = MelPower(window, filters, hop=_AST_HOP, center=False, remove_mean=True, preemphasis=_AST_PREEMPHASIS)
    samples = (extractor.max_length - 1) * _AST_HOP + _AST_SIZE
    prepare = AudioPrepare(inputs=_MEASURED, rate=rate, max_seconds=samples / rate, fixed=True)
    mean, deviation = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)
    return prepare, AstFront(power, mean=mean, deviation=deviation)


def _wav2vec2(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    prepare = AudioPrepare(inputs=_MASKED, rate=extractor.sampling_rate, max_seconds=max_seconds)
    return prepare, UnitVariance() if extractor.do_normalize else Unscaled()


def _encodec(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.feature_size != 1:
        raise ExportError("EncodecFeatureExtractor of two channels is not supported: clips are mixed to one")
    if extractor.chunk_length_s is not None:
        raise ExportError("EncodecFeatureExtractor that cuts clips into chunks is not supported (chunk_length_s)")
    return AudioPrepare(inputs=_MASKED, rate=extractor.sampling_rate, max_seconds=max_seconds), RawFront()


_READERS: dict[str, Callable[[Any, float], tuple[AudioPrepare, nn.Module]]] = {
    "ASTFeatureExtractor": _ast,
    "ClapFeatureExtractor": _clap,
    "EncodecFeatureExtractor": _encodec,
    "Wav2Vec2FeatureExtractor": _wav2vec2,
    "WhisperFeatureExtractor": _whisper,
}
