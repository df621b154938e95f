"""Families of audio: clips in, the vectors of the library's own extractor and model out, alone or in a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from numpy.typing import NDArray

from embedge import Embedder, RuntimeConfig
from embedge.bundle.part_specs import AudioPrepare
from embedge.content import Audio
from embedge.inputs.audio import AudioInput
from embedge.request import Request
from embedge_export import sources
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.graph_inputs import inputs_of
from embedge_export.model import TowerSource
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.sounds import sounds
from tests.export.models import cosines, tokenizer

CLIPS = [Audio(data) for data in sounds(6)]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}


def whisper(path: Path) -> None:
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=48,
        vocab_size=9,
        max_source_positions=250,
        init_std=0.3,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
    )
    transformers.WhisperModel(config).save_pretrained(path)
    transformers.WhisperFeatureExtractor(chunk_length=5).save_pretrained(path)


def ast(path: Path) -> None:
    config = transformers.ASTConfig(**SIZES, max_length=256, num_mel_bins=64)
    transformers.ASTModel(config).save_pretrained(path)
    transformers.ASTFeatureExtractor(max_length=256, num_mel_bins=64).save_pretrained(path)


def wav2vec2(path: Path, **settings: Any) -> None:
    convolutions = {"conv_dim": (16,) * 3, "conv_kernel": (10, 3, 2), "conv_stride": (5, 8, 8)}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    config = transformers.Wav2Vec2Config(**SIZES, **convolutions, **positions, **settings)
    transformers.Wav2Vec2Model(config).save_pretrained(path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(path)


def wav2vec2_of_layers(path: Path) -> None:
    wav2vec2(path, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)


def clap(path: Path, fusion: bool = False) -> None:
    words = tokenizer()
    text = {**SIZES, "vocab_size": words.vocab_size, "max_position_embeddings": 48, "pad_token_id": words.pad_token_id}
    audio = {"patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2]}
    config = transformers.ClapConfig(
        text_config=text, audio_config={**audio, "enable_fusion": fusion}, projection_dim=24
    )
    transformers.ClapModel(config).save_pretrained(path)
    extractor = transformers.ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc")
    transformers.ClapProcessor(feature_extractor=extractor, tokenizer=words).save_pretrained(path)


def saved(make: Callable[..., None], path: Path, **settings: Any) -> Path:
    with quiet():
        torch.manual_seed(0)
        make(path, **settings)
    return path


SLOW = (wav2vec2, wav2vec2_of_layers, clap)  # to trace
FAMILIES = [
    *(pytest.param(make, id=make.__name__) for make in (whisper, ast)),
    *(pytest.param(make, id=make.__name__, marks=pytest.mark.slow) for make in SLOW),
]


@pytest.fixture(scope="module", params=FAMILIES)
def tower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TowerSource, Path]:
    """The audio tower of a family, and its graph."""
    path = saved(request.param, tmp_path_factory.mktemp("model"))
    source = sources.load(path, Recipe(name="m", source=str(path)), allow_pickle=False).towers["audio"]
    source.graph.write(path / "model.onnx", inputs_of(source.parts), opset=20)
    return source, path / "model.onnx"


def run(tower: tuple[TowerSource, Path], clips: Sequence[Audio]) -> NDArray[np.float32]:
    """Return the vectors of one batch, prepared by the runtime and padded to its longest."""
    prepare = tower[0].parts["audio"].prepare
    assert isinstance(prepare, AudioPrepare)
    rows: list[Any] = AudioInput(prepare, RuntimeConfig(), Path).prepare(clips, Request(items=[], truncate=True))
    sizes = np.array([len(row["samples"]) for row in rows])
    feed = {"samples": np.stack([np.pad(row["samples"], (0, sizes.max() - len(row["samples"]))) for row in rows])}
    if "length" in prepare.inputs:
        feed["samples_length"] = np.stack([row["samples_length"] for row in rows])
    if "mask" in prepare.inputs:
        feed["samples_mask"] = (np.arange(sizes.max()) < sizes[:, None]).astype(np.int64)
    session = onnxruntime.InferenceSession(tower[1], providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def test_vectors_are_the_originals(tower: tuple[TowerSource, Path]) -> None:
    ours = run(tower, CLIPS)
    theirs = np.stack([tower[0].original(clip)["dense"] for clip in CLIPS])
    assert cosines(ours, theirs).min() > 0.99999
    assert cosines(theirs[:3], theirs[3:]).min() < 0.9999  # clips differ by more


def test_neighbours_and_padding_change_nothing(tower: tuple[TowerSource, Path]) -> None:
    together = run(tower, CLIPS)
    alone = np.concatenate([run(tower, [clip]) for clip in CLIPS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_shortest_clips_have_vectors(tower: tuple[TowerSource, Path]) -> None:
    tick = Audio(np.full(10, 0.5, np.float32), 16_000)
    assert np.isfinite(run(tower, [tick, *CLIPS[:2]])).all()


def test_fused_clap_is_refused(tmp_path: Path) -> None:
    path = saved(clap, tmp_path, fusion=True)
    with pytest.raises(ExportError, match="without fusion"):
        sources.load(path, Recipe(name="m", source=str(path)), allow_pickle=False)


def test_an_extractor_that_hears_otherwise_makes_another_space(tmp_path: Path) -> None:
    path = saved(ast, tmp_path)
    recipe = Recipe(name="m", source=str(path))
    before, again = (sources.load(path, recipe, allow_pickle=False).spaces["ast"] for _ in range(2))
    assert before.definition == again.definition
    transformers.ASTFeatureExtractor(max_length=256, num_mel_bins=64, mean=0.5).save_pretrained(path)
    assert sources.load(path, recipe, allow_pickle=False).spaces["ast"].definition != before.definition


@pytest.mark.slow
def test_a_bundle_passes_the_gate_and_serves_clips(tmp_path: Path) -> None:
    source = saved(wav2vec2, tmp_path / "source")
    recipe = Recipe(name="m", source=str(source), normalize=True, gate=Gate(items=16, golden=8))
    path, manifest = build(recipe, tmp_path / "engines")
    assert manifest.towers["audio"].outputs["dense"].normalized  # type: ignore[union-attr]
    model = transformers.Wav2Vec2Model.from_pretrained(source).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(source)
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 9000).astype(np.float32)
    with Embedder.open(path, config=RuntimeConfig(warm_up_seconds=0)) as embedder, torch.no_grad():
        ours = embedder.embed([*CLIPS[:3], Audio(wave, 16_000)])[3]
        states = model(**extractor(wave, sampling_rate=16_000, return_tensors="pt")).last_hidden_state
    theirs = states.mean(dim=1).numpy()
    assert cosines(np.asarray(ours)[None], theirs).min() > 0.99999
