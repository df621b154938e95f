"""Feature extractors of transformers, converted to a preparation of clips and a torch module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from transformers.audio_utils import mel_filter_bank, window_function

from embedge.bundle.part_specs import AudioPrepare
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.sources.preprocess.audio import (
    AstFeatures,
    ClapFeatures,
    MelPower,
    RawChannel,
    UnitVariance,
    Unscaled,
    WhisperFeatures,
)

__all__ = ["from_extractor"]

_ClipInputs = dict[Literal["samples", "mask", "length"], str]
_SAMPLES: _ClipInputs = {"samples": "samples"}
_MASKED: _ClipInputs = {"samples": "samples", "mask": "samples_mask"}
_MEASURED: _ClipInputs = {"samples": "samples", "length": "samples_length"}

# Constants in the code of ASTFeatureExtractor: Kaldi frames of 25 ms at 16 kHz, every 10 ms.
_AST_SIZE, _AST_HOP, _AST_FFT = 400, 160, 512
_AST_LOWEST = 20.0
_AST_PREEMPHASIS = 0.97
_CLAP_FILLS: dict[str, Any] = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "zero"}


def from_extractor(extractor: Any, *, max_seconds: float = 30.0) -> tuple[AudioPrepare, nn.Module]:
    """Convert a feature extractor.

    Args:
        extractor: The extractor of transformers.
        max_seconds: Length of the longest clip, for extractors without a limit.

    Returns:
        The preparation of clips, and a module with the prepared inputs as keyword arguments.

    Raises:
        ExportError: The extractor or one of its settings is not supported.
    """
    kind = type(extractor).__name__
    if kind not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise ExportError(f"{kind} is not supported; supported extractors are {known}")
    if extractor.padding_value:
        raise ExportError(f"{kind} pads with {extractor.padding_value}; only 0 is supported")
    return _READERS[kind](extractor, max_seconds)


def _whisper(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.dither:
        raise ExportError(
            "WhisperFeatureExtractor adds noise (dither), so its vectors vary from call to call; set dither to 0"
        )
    window = window_function(extractor.n_fft, "hann")
    power = MelPower(window, extractor.mel_filters, hop=extractor.hop_length, drop=1)
    prepare = AudioPrepare(
        inputs=_SAMPLES, rate=extractor.sampling_rate, max_seconds=extractor.chunk_length, fixed=True
    )
    return prepare, WhisperFeatures(power)


def _clap(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.truncation != "rand_trunc":
        raise ExportError(
            f"ClapFeatureExtractor with truncation={extractor.truncation!r} embeds random pieces; "
            "only rand_trunc is supported, exact for clips up to its limit"
        )
    if extractor.padding not in _CLAP_FILLS:
        raise ExportError(f"ClapFeatureExtractor with padding={extractor.padding!r} is not supported")
    window = window_function(extractor.fft_window_size, "hann")
    power = MelPower(window, extractor.mel_filters_slaney, hop=extractor.hop_length)
    prepare = AudioPrepare(
        inputs=_SAMPLES,
        rate=extractor.sampling_rate,
        max_seconds=extractor.max_length_s,
        fixed=True,
        fill=_CLAP_FILLS[extractor.padding],
    )
    return prepare, ClapFeatures(power)


def _ast(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    rate = extractor.sampling_rate
    if rate != 16_000:
        raise ExportError(f"ASTFeatureExtractor at {rate:,} Hz is not supported; its frames are made for 16,000 Hz")
    with quiet():  # warns that the lowest of the usual 128 bands hold no frequency
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
    return prepare, AstFeatures(power, mean=mean, deviation=deviation)


def _wav2vec2(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    prepare = AudioPrepare(inputs=_MASKED, rate=extractor.sampling_rate, max_seconds=max_seconds)
    return prepare, UnitVariance() if extractor.do_normalize else Unscaled()


def _encodec(extractor: Any, max_seconds: float) -> tuple[AudioPrepare, nn.Module]:
    if extractor.feature_size != 1:
        raise ExportError("EncodecFeatureExtractor with two channels is not supported; clips are mixed to one")
    if extractor.chunk_length_s is not None:
        raise ExportError("EncodecFeatureExtractor with chunks (chunk_length_s) is not supported")
    return AudioPrepare(inputs=_MASKED, rate=extractor.sampling_rate, max_seconds=max_seconds), RawChannel()


_READERS: dict[str, Callable[[Any, float], tuple[AudioPrepare, nn.Module]]] = {
    "ASTFeatureExtractor": _ast,
    "ClapFeatureExtractor": _clap,
    "EncodecFeatureExtractor": _encodec,
    "Wav2Vec2FeatureExtractor": _wav2vec2,
    "WhisperFeatureExtractor": _whisper,
}
