"""Features of clips computed in the graph are those of the original feature extractors, for every clip of a batch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import soxr
import torch
import transformers
from numpy.typing import NDArray

from embedge.bundle.part_specs import AudioPrepare
from embedge.config import RuntimeConfig
from embedge.content import Audio
from embedge.inputs.audio import AudioInput
from embedge.request import Request
from embedge_export.errors import ExportError
from embedge_export.model import GraphInput
from embedge_export.onnx_graph import files as graph
from embedge_export.quiet import quiet
from embedge_export.samples.sounds import sounds
from embedge_export.sources.preprocess.extractors import from_extractor

CLIPS = sounds(10)
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """An extractor, what it calls its features, and how far from them is near enough: at most, and on average.

    The distances are float32's, over clean synthetic sounds: bands that hold next to nothing differ most.
    """

    extractor: Any
    key: str
    most: float = 0.0
    mean: float = 0.0

    @property
    def rate(self) -> int:
        return int(self.extractor.sampling_rate)


def extractors() -> dict[str, Case]:
    with quiet():  # ASTFeatureExtractor warns of its own filters
        ast = transformers.ASTFeatureExtractor(max_length=512)
        clap = transformers.ClapFeatureExtractor(truncation="rand_trunc", max_length_s=5)
        whisper = transformers.WhisperFeatureExtractor(chunk_length=5)
        return {
            "whisper": Case(whisper, "input_features", 2e-4, 2e-6),
            "clap": Case(clap, "input_features", 0.5, 5e-3),  # in decibels above -100
            "ast": Case(ast, "input_values", 1e-3, 1e-5),
            "wav2vec2": Case(transformers.Wav2Vec2FeatureExtractor(), "input_values", 1e-5, 1e-6),
            "unscaled": Case(transformers.Wav2Vec2FeatureExtractor(do_normalize=False), "input_values"),
            "encodec": Case(transformers.EncodecFeatureExtractor(), "input_values"),
        }


CASES = extractors()


@pytest.fixture(scope="module", params=["whisper", "clap", "ast", "wav2vec2"])
def graphed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A case and the graph of its front."""
    case = CASES[request.param]
    prepare, front = from_extractor(case.extractor)
    feed = feeds(prepare, CLIPS[:2])
    size: int | str = feed["samples"].shape[1] if prepare.fixed else "samples"
    shapes: dict[str, tuple[int | str, ...]] = {"samples_length": ("batch",)}
    inputs = [GraphInput(name, shapes.get(name, ("batch", size)), example) for name, example in feed.items()]
    path = tmp_path_factory.mktemp("front") / "front.onnx"
    graph.export(front, path, inputs=inputs, outputs=["features"], opset=18)
    return case, path


def run(path: Path, feed: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def feeds(prepare: AudioPrepare, clips: Sequence[object]) -> dict[str, Array]:
    """Return a batch of clips as the runtime prepares and pads it."""
    rows: list[Any] = AudioInput(prepare, RuntimeConfig(), Path).prepare(clips, Request(items=[]))
    sizes = [len(row["samples"]) for row in rows]
    width = max(sizes)
    feed = {"samples": np.stack([np.pad(row["samples"], (0, width - len(row["samples"]))) for row in rows])}
    if "length" in prepare.inputs:
        feed["samples_length"] = np.stack([row["samples_length"] for row in rows])
    if "mask" in prepare.inputs:
        feed["samples_mask"] = (np.arange(width) < np.array(sizes)[:, None]).astype(np.int64)
    return feed


def through_torch(case: Case, clips: Sequence[object]) -> Array:
    prepare, front = from_extractor(case.extractor)
    with torch.no_grad():
        return np.asarray(front(**{name: torch.from_numpy(value) for name, value in feeds(prepare, clips).items()}))


def original(case: Case, clip: bytes) -> Array:
    """Return what the original extractor makes of a clip that was decoded and resampled beside embedge."""
    wave, rate = soundfile.read(io.BytesIO(clip), dtype="float32", always_2d=True)
    return features(case, soxr.resample(wave.mean(axis=1), rate, case.rate))


def features(case: Case, samples: Array) -> Array:
    made = case.extractor(samples, sampling_rate=case.rate, return_tensors="np")
    return np.asarray(made[case.key][0])


def compare(case: Case, found: Array, expected: Array) -> None:
    """Hold a row, which may be padded at its end, against the original's."""
    assert not found[..., expected.shape[-1] :].any()
    distance = np.abs(found[..., : expected.shape[-1]] - expected)
    assert distance.max() <= case.most
    assert distance.mean() <= case.mean


def test_the_graph_gives_the_extractors_features(graphed: tuple[Case, Path]) -> None:
    case, path = graphed
    feed = feeds(from_extractor(case.extractor)[0], CLIPS)
    found = run(path, feed)
    np.testing.assert_allclose(found, through_torch(case, CLIPS), atol=max(1e-5, case.most))
    for row, clip in zip(found, CLIPS, strict=True):
        compare(case, row, original(case, clip))


def test_other_clips_in_a_batch_change_nothing(graphed: tuple[Case, Path]) -> None:
    case, path = graphed
    prepare, _ = from_extractor(case.extractor)
    together = run(path, feeds(prepare, CLIPS[:4]))
    for row, clip in zip(together, CLIPS, strict=False):
        (alone,) = run(path, feeds(prepare, [clip]))
        np.testing.assert_allclose(row[..., : alone.shape[-1]], alone, atol=1e-5)


def test_the_graph_has_no_operator_that_backends_lack(graphed: tuple[Case, Path]) -> None:
    model = onnx.load(graphed[1])
    assert not {"STFT", "DFT", "Loop", "Scan", "If", "GatherND", "ScatterND"} & {
        node.op_type for node in model.graph.node
    }
    assert model.opset_import[0].version <= 20


@pytest.mark.parametrize("name", ["unscaled", "encodec"])
def test_samples_can_go_to_the_model_as_they_are(name: str) -> None:
    for clip in CLIPS[:3]:
        compare(CASES[name], through_torch(CASES[name], [clip])[0], original(CASES[name], clip))


@pytest.mark.parametrize("name", ["whisper", "clap", "ast", "wav2vec2"])
@pytest.mark.parametrize("count", [401, 559, 560, 561, 16_000, 79_999, 80_000])
def test_every_length_up_to_the_limit(name: str, count: int) -> None:
    case = CASES[name]
    samples = 0.1 * np.random.default_rng(count).standard_normal(count).astype(np.float32)
    compare(case, through_torch(case, [Audio(samples, case.rate)])[0], features(case, samples))


@pytest.mark.parametrize("name", ["whisper", "clap", "ast", "wav2vec2"])
def test_silence_has_features(name: str) -> None:
    case = CASES[name]
    silence = np.zeros(16_000, np.float32)
    compare(case, through_torch(case, [Audio(silence, case.rate)])[0], features(case, silence))


def test_wide_and_unnormalised_variants() -> None:
    with quiet():
        wide = transformers.WhisperFeatureExtractor(chunk_length=5, feature_size=128, hop_length=200)
        plain = transformers.ASTFeatureExtractor(max_length=512, num_mel_bins=40, do_normalize=False)
    for case in (Case(wide, "input_features", 2e-4, 2e-6), Case(plain, "input_values", 1e-2, 1e-4)):
        for clip in CLIPS[:3]:
            compare(case, through_torch(case, [clip])[0], original(case, clip))


def unsupported() -> dict[str, tuple[Any, str]]:
    return {
        "fusion": (transformers.ClapFeatureExtractor(), "rand_trunc"),
        "fill": (transformers.ClapFeatureExtractor(truncation="rand_trunc", padding="mirror"), "mirror"),
        "dither": (transformers.WhisperFeatureExtractor(dither=0.1), "dither"),
        "padding": (transformers.Wav2Vec2FeatureExtractor(padding_value=1.0), "only 0"),
        "stereo": (transformers.EncodecFeatureExtractor(feature_size=2), "two channels"),
        "chunks": (transformers.EncodecFeatureExtractor(chunk_length_s=1.0, overlap=0.1), "chunk_length_s"),
        "unknown": (transformers.UnivNetFeatureExtractor(), "ClapFeatureExtractor"),
    }


@pytest.mark.parametrize("name", unsupported())
def test_what_is_not_supported_says_so(name: str) -> None:
    extractor, message = unsupported()[name]
    with pytest.raises(ExportError, match=message):
        from_extractor(extractor)
