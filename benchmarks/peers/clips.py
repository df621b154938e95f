"""Prepare clips as the runtime does, and as transformers' feature extractors do after the same decoder and resampler.

    OMP_NUM_THREADS=1 python -P benchmarks/peers/clips.py [--seconds 10] [--rounds 15]

Encoded clips in, what the model's first layer takes out, one thread each, in turns: seconds of audio a second, and the
median of the turns' ratios. The runtime's spectrogram is part of the graph: `and front` counts ONNX Runtime's time for
it too, which lanes spend, not the threads that prepare.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import soxr
import torch
import transformers

from embedge.config import RuntimeConfig
from embedge.inputs.audio import AudioInput
from embedge.request import Request
from embedge_export.model import GraphInput
from embedge_export.onnx_graph import files as graph
from embedge_export.quiet import quiet
from embedge_export.sources.preprocess.extractors import from_extractor

# File format, Hz and channels of the clips.
FILES = (("WAV", 16_000, 1), ("WAV", 48_000, 1), ("FLAC", 44_100, 2), ("OGG", 44_100, 2), ("MP3", 44_100, 2))
REQUEST = Request(items=[], truncate=True)


def clip(seconds: float, form: str, rate: int, channels: int) -> bytes:
    """Return noise that swells, as a file."""
    draw = np.random.default_rng(0)
    time = np.arange(int(seconds * rate))[:, None] / rate
    wave = 0.1 * draw.standard_normal((len(time), channels)) * (1 + np.sin(2 * np.pi * 2 * time))
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form)
    return file.getvalue()


def peer(extractor: Any) -> Callable[[bytes], object]:
    """Return what turns a file into the extractor's features."""

    def prepare(data: bytes) -> object:
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        mono = wave.mean(axis=1) if wave.shape[1] > 1 else wave[:, 0]
        if rate != extractor.sampling_rate:
            mono = soxr.resample(mono, rate, extractor.sampling_rate)
        return extractor(mono, sampling_rate=extractor.sampling_rate, return_tensors="np")

    return prepare


def ours(extractor: Any) -> tuple[Callable[[bytes], Any], Callable[[Any], object]]:
    """Return the runtime's preparation of a file, and the front that takes its row."""
    spec, front = from_extractor(extractor)
    part = AudioInput(spec, RuntimeConfig(), Path)
    (row,) = part.prepare([part.probe()], REQUEST)
    examples = {name: np.stack([row[name]] * 2) for name in spec.inputs.values() if name in row}
    if "mask" in spec.inputs:
        examples["samples_mask"] = np.ones_like(examples["samples"], np.int64)
    shapes = {"samples_length": ("batch",)}
    size = "n" if "mask" in spec.inputs else examples["samples"].shape[1]
    inputs = [GraphInput(name, shapes.get(name, ("batch", size)), value) for name, value in examples.items()]
    with TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "front.onnx"
        graph.export(front, path, inputs=inputs, outputs=["features"], opset=18)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)

    def run(row: Any) -> object:
        feed = {name: row[name][None] for name in row}
        if "mask" in spec.inputs:
            feed["samples_mask"] = np.ones_like(feed["samples"], np.int64)
        return session.run(None, feed)

    return lambda data: part.prepare([data], REQUEST)[0], run


def timed(work: Callable[[Any], Any], given: Any) -> tuple[Any, float]:
    """Return what work makes of the given, and the seconds that it took."""
    start = time.perf_counter()
    made = work(given)
    return made, time.perf_counter() - start


def main() -> None:
    """Measure every extractor with every kind of file."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    torch.set_num_threads(1)
    with quiet():
        extractors = {
            "whisper": transformers.WhisperFeatureExtractor(),
            "clap": transformers.ClapFeatureExtractor(truncation="rand_trunc"),
            "ast": transformers.ASTFeatureExtractor(),
            "wav2vec2": transformers.Wav2Vec2FeatureExtractor(),
        }
    print(f"{'':10}{'file':22}{'peer':>9}{'ours':>9}{'ratio':>7}{'and front':>11}{'ratio':>7}  (audio s/s)")
    for name, extractor in extractors.items():
        theirs, (prepare, front) = peer(extractor), ours(extractor)
        for form, rate, channels in FILES:
            data = clip(given.seconds, form, rate, channels)
            turns = []
            for _ in range(given.rounds + 2):
                _, first = timed(theirs, data)
                row, second = timed(prepare, data)
                _, third = timed(front, row)
                turns.append((first, second, second + third))
            peers, alone, whole = zip(*turns[2:], strict=True)
            speeds = [given.seconds / median(times) for times in (peers, alone, whole)]
            gains = [median(a / b for a, b in zip(peers, times, strict=True)) for times in (alone, whole)]
            kind = f"{form} {rate / 1000:g} kHz x{channels}"
            print(
                f"{name:10}{kind:22}{speeds[0]:9,.0f}{speeds[1]:9,.0f}{gains[0]:7.2f}{speeds[2]:11,.0f}{gains[1]:7.2f}"
            )


if __name__ == "__main__":
    main()
