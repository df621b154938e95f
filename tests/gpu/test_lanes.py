"""Lanes on a GPU give the processor's vectors, alone and in company, in every precision."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import measure
from benchmarks.gpu.cases import PRECISIONS, Case, Items
from benchmarks.gpu.lanes import Lanes
from benchmarks.gpu.measured import LANES, LIMITS
from benchmarks.gpu.peers import PlainOnnxRuntime
from embedge import Embedder, RuntimeConfig
from tests.gpu.conftest import Gpu
from tests.tiny import words

SETTINGS: list[dict[str, Any]] = [{}, {"max_in_flight": 1}, {"lanes": LANES}, {"cuda_graphs": 0}]


def drawn(items: Items, length_multiple: int, count: int = 7) -> list[Any]:
    return [
        items.feeds(items.batch(1 + seed % 4, 8 * (1 + seed % 3), seed=seed, least=1), length_multiple)
        for seed in range(count)
    ]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_with_the_processor_and_batch_invariance(
    gpu: Gpu, backend: str, case: Case, precision: str, settings: dict[str, Any]
) -> None:
    with closing(Lanes(backend, case.bundles[precision], cuda=gpu.provider, **settings)) as lanes:
        apart, invariance = measure.parity(
            lanes, Items(lanes.model), case.reference(), length_multiple=lanes.length_multiple
        )
    assert apart <= LIMITS[precision]
    assert invariance <= LIMITS[precision]


def test_several_lanes_give_batches_back_in_order(gpu: Gpu, backend: str, case: Case) -> None:
    path = case.bundles["float32"]
    with (
        closing(Lanes("onnxruntime", path)) as processor,
        closing(Lanes(backend, path, lanes=LANES, cuda=gpu.provider)) as lanes,
    ):
        batches = drawn(Items(lanes.model), lanes.length_multiple)
        for ours, theirs in zip(lanes.run(batches), processor.run(batches), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_plain_onnxruntime_gives_the_same(gpu: Gpu, backend: str, case: Case) -> None:
    path = case.bundles["float32"]
    with closing(PlainOnnxRuntime(path)) as plain, closing(Lanes(backend, path, cuda=gpu.provider)) as lanes:
        batches = drawn(Items(lanes.model), lanes.length_multiple)
        for ours, theirs in zip(lanes.run(batches), plain.run(batches), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_embedder_on_the_gpu_gives_the_processors_vectors(gpu: Gpu, backend: str, case: Case) -> None:
    texts = [words(1 + number % 20, seed=number) for number in range(30)]
    path = case.bundles["float32"]
    with Embedder.open(path, config=RuntimeConfig(backend="onnxruntime", lanes=1, warm_up_seconds=0)) as embedder:
        want = np.asarray(embedder.embed(texts))
    config = RuntimeConfig(backend=backend, lanes=2, warm_up_seconds=0, cuda=gpu.provider)
    with Embedder.open(path, config=config) as embedder:
        np.testing.assert_allclose(np.asarray(embedder.embed(texts)), want, atol=1e-5)
