"""Embedders on a GPU: the processor's results, bit by bit, whoever asks, whatever runs when, over the wire as well.

They are the same bits because the simulated GPU computes every graph with the kernels of ONNX Runtime on the processor,
and because all weights are whole numbers, so that padding to another width changes no sum.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from embedge import Client, Embedder, Reply, RuntimeConfig
from tests.runtime.gpu.asked import MODELS
from tests.runtime.gpu.opened import BACKENDS, BOARDS, all_at_once, config, gpu, on_the_processor, right, served
from tests.runtime.serving.test_wire import same
from tests.simulated.fixtures import ORDERS, Simulate

# Both libraries and both kinds of boards take turns, so that each model meets each pair of them in some order.
PLACES = [(provider, board) for provider in ("cuda-python", "pycuda") for board in BOARDS]
TURNS = [(*PLACES[number % 4], *ORDERS[number % 7]) for number in range(28)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Reply]]]:
    """Return by model its bundle, and what the processor answers."""
    root = tmp_path_factory.mktemp("models")
    paths = {name: asked.make(root / name) for name, asked in MODELS.items()}
    return {name: (path, on_the_processor(path, MODELS[name].requests())) for name, path in paths.items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turn", range(7))
def test_every_model_gives_the_processors_results(
    simulate: Simulate, made: dict[str, tuple[Path, list[Reply]]], model: str, backend: str, turn: int
) -> None:
    provider, board, order, seed = TURNS[turn + 7 * list(MODELS).index(model) % 28]
    path, wanted = made[model]
    with (
        gpu(simulate, backend, provider, order=order, seed=seed, device=BOARDS[board]),
        Embedder.open(path, config=config(backend)) as embedder,
    ):
        assert embedder.backend_reason == f"{backend} was asked for"
        right(embedder, MODELS[model].requests(), wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
async def test_the_wire_gives_what_the_model_gives_in_process(
    simulate: Simulate, made: dict[str, tuple[Path, list[Reply]]], tmp_path: Path, backend: str, provider: str
) -> None:
    names = ("tiny", "towers", "kinds")
    for name in names:
        (tmp_path / "engines" / name).mkdir(parents=True)
        (tmp_path / "engines" / name / "1").symlink_to(made[name][0])
    with gpu(simulate, backend, provider, order="random", seed=3):
        async with served(tmp_path / "engines", config(backend)) as server:
            with Client(server.address) as client:
                for name in names:
                    requests, wanted = MODELS[name].requests(), made[name][1]
                    over = await asyncio.to_thread(all_at_once, partial(client.run, name), requests)
                    here = await asyncio.to_thread(all_at_once, server.models.get(name).run, requests)
                    for wire, local, true in zip(chain(*over), chain(*here), wanted * 3, strict=True):
                        same(wire, local)
                        same(wire, true)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_that_are_measured_at_start_give_the_same(
    simulate: Simulate, made: dict[str, tuple[Path, list[Reply]]], backend: str
) -> None:
    """With all settings as they are when nobody set any, but for the time that is spent on measuring."""
    path, wanted = made["towers"]
    with (
        gpu(simulate, backend, order="random", seed=2),
        Embedder.open(path, config=RuntimeConfig(backend=backend, warm_up_seconds=0.1)) as embedder,
    ):
        assert 1 <= embedder.split.lanes <= 4
        assert all(cost.measured for cost in embedder.costs.values())
        right(embedder, MODELS["towers"].requests(), wanted)
