"""Lanes that die on a GPU: who waits is told, health says it, the lanes come back, and the vectors are right again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, as_completed, wait
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import BackendError, Embedder, Reply, Request, Unavailable, cuda
from tests.runtime.gpu.asked import MODELS
from tests.runtime.gpu.opened import BACKENDS, BOARDS, LONG, config, gpu, on_the_processor, right
from tests.runtime.heard import Heard
from tests.simulated.fixtures import ORDERS, Simulate
from tests.simulated.onnxruntime_gpu import cuda_provider
from tests.tiny import tiny_bundle

REQUESTS = MODELS["tiny"].requests()
LONE = Request(items=REQUESTS[0].items[:1])  # one batch, so that what becomes of it is what the caller hears
Truth = tuple[Path, list[Reply]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    path = tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")
    return path, on_the_processor(path, REQUESTS)


def asked(embedder: Embedder, rounds: int = 3) -> list[Future[Reply]]:
    """Send many requests, and wait for none."""
    return [embedder.submit(each) for _ in range(rounds) for each in REQUESTS]


def ended(futures: list[Future[Reply]], wanted: list[Reply]) -> int:
    """Wait for all; return how many failed, and hold the others against what is wanted."""
    failed = 0
    for number, future in enumerate(futures):
        try:
            reply = future.result(LONG)
        except (BackendError, Unavailable):
            failed += 1
            continue
        good = [row for row in range(len(REQUESTS[0].items)) if row not in reply.errors]
        mine, theirs = (each.outputs["dense"].values for each in (reply, wanted[number % len(wanted)]))  # type: ignore[union-attr]
        np.testing.assert_array_equal(mine[good], theirs[good])
        failed += bool(reply.errors)
    return failed


def health(heard: Heard, *words: bool) -> None:
    """Wait until these were the changes of a model's health: each lane tells of its own."""
    with heard.changed:
        assert heard.changed.wait_for(lambda: [word for word, _ in groupby(heard.words)] == list(words), LONG)


def all_lanes(embedder: Embedder, what: str) -> None:
    """Wait until every lane is alive, or given up."""
    pool = embedder._pool
    with pool._changed:
        assert pool._changed.wait_for(lambda: all(getattr(lane, what) for lane in pool.lanes), LONG)
    if what == "given_up":  # new calls are refused for it before the lane's thread ends, not before the flag is set
        assert all(lane.join(LONG) for lane in pool.lanes)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_context_kills_all_lanes_and_they_come_back(
    simulate: Simulate, tiny: Truth, backend: str, order: str, seed: int
) -> None:
    path, wanted = tiny
    provider, board = ("cuda-python", "pycuda")[seed % 2], list(BOARDS)[seed % 3 == 0]
    with (
        gpu(simulate, backend, provider, order=order, seed=seed, device=BOARDS[board]) as machine,
        Embedder.open(path, config=config(backend)) as embedder,
    ):
        heard, old = Heard(embedder), machine.contexts.primary
        machine.faults.fail(after=5)
        assert ended(asked(embedder), wanted), "somebody was told"
        health(heard, True, False, True)
        all_lanes(embedder, "alive")
        assert machine.contexts.primary is not old
        right(embedder, REQUESTS, wanted)
        health(heard, True, False, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_idle_model_on_the_same_gpu_hears_of_it_and_comes_back(
    simulate: Simulate, tiny: Truth, backend: str
) -> None:
    path, wanted = tiny
    with (
        gpu(simulate, backend) as machine,
        Embedder.open(path, config=config(backend, lanes=1)) as busy,
        Embedder.open(path, config=config(backend, lanes=2)) as idle,
    ):
        words = [Heard(each) for each in (busy, idle)]
        machine.faults.fail()
        with pytest.raises(BackendError, match="the lane failed"):
            busy.run(LONE)
        for each in words:
            health(each, True, False, True)
        for each in (busy, idle):
            all_lanes(each, "alive")
            right(each, REQUESTS, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gpu_that_breaks_at_every_start_is_given_up(
    simulate: Simulate, tiny: Truth, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = tiny
    with gpu(simulate, backend) as machine, Embedder.open(path, config=config(backend, lanes=1)) as embedder:
        driver = cuda.choose()
        after(driver, "reset", machine.faults.fail)
        machine.faults.fail()
        with pytest.raises(BackendError, match="the lane failed"):
            embedder.run(LONE)
        all_lanes(embedder, "given_up")
        assert not embedder.serving
        with pytest.raises(Unavailable, match="all are given up; restart"):
            embedder.run(LONE)
    assert "lane tiny-0: given up after 3 failures in a row" in caplog.text
    assert "no lane is left; restart the process to serve this model again" in caplog.text


def after(target: Any, name: str, then: Callable[[], None]) -> None:
    """Let a method of one object do something more at its end."""
    real = getattr(target, name)

    def changed() -> None:
        real()
        then()

    setattr(target, name, changed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_waits_for_a_hung_stream_is_told_and_another_lane_takes_its_place(
    simulate: Simulate, tiny: Truth, backend: str
) -> None:
    path, wanted = tiny
    with gpu(simulate, backend) as machine, Embedder.open(path, config=config(backend, lanes=1)) as embedder:
        heard, hang = Heard(embedder), machine.faults.hang()
        waiting = asked(embedder, rounds=1)
        assert hang.reached.wait(LONG)
        embedder._pool.check(time.perf_counter() + 3600)  # as if an hour had passed
        assert ended(waiting, wanted)
        health(heard, True, False, True)
        right(embedder, REQUESTS, wanted)
        hang.release()
        (old,) = embedder._pool.abandoned
        old._thread.join(LONG)
        right(embedder, REQUESTS, wanted)
        assert embedder.drain(LONG)
        assert embedder.stats()["running_batches"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_that_hangs_beside_others_costs_one_lane(simulate: Simulate, tiny: Truth, backend: str) -> None:
    path, wanted = tiny
    lone = [Request(items=[item]) for item in REQUESTS[0].items]
    with (
        gpu(simulate, backend) as machine,
        Embedder.open(path, config=config(backend, max_batch_size=1)) as embedder,
    ):
        heard, hang = Heard(embedder), machine.faults.hang()
        stuck = embedder.submit(lone[0])
        assert hang.reached.wait(LONG)
        others = [embedder.submit(each) for each in lone]
        done = list(islice(as_completed(others, LONG), len(others) - 1))  # one may be behind it, in the same lane
        assert not stuck.done()
        embedder._pool.check(time.perf_counter() + 3600)
        assert isinstance(stuck.exception(LONG), BackendError)
        wait(others, LONG)
        assert all(future.exception(0) is None for future in done)
        assert set(heard.words) == {True}
        right(embedder, REQUESTS, wanted)
        hang.release()
        embedder._pool.abandoned[0]._thread.join(LONG)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_another_program_takes_is_missed_by_nobody_who_is_open(
    simulate: Simulate, tiny: Truth, backend: str
) -> None:
    path, wanted = tiny
    with gpu(simulate, backend) as machine, Embedder.open(path, config=config(backend)) as embedder:
        machine.memory.taken = machine.memory.free
        right(embedder, REQUESTS, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_finds_no_memory_says_so(simulate: Simulate, tiny: Truth, backend: str) -> None:
    path, _ = tiny
    with gpu(simulate, backend) as machine, Embedder.open(path, config=config(backend)):
        machine.memory.taken = machine.memory.free
        with pytest.raises(BackendError, match=r"0 of the GPU's 8,589,934,592 bytes are free .*set fewer lanes"):
            Embedder.open(path, config=config(backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lane_that_finds_no_memory_when_it_comes_back_is_given_up(
    simulate: Simulate, tiny: Truth, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = tiny
    with gpu(simulate, backend) as machine, Embedder.open(path, config=config(backend, lanes=1)) as embedder:

        def take() -> None:
            machine.memory.taken = machine.memory.free

        after(cuda.choose(), "reset", take)
        machine.faults.fail()
        with pytest.raises(BackendError):
            embedder.run(LONE)
        all_lanes(embedder, "given_up")
        with pytest.raises(Unavailable, match="all are given up; restart"):
            embedder.run(LONE)
    assert "bytes are free" in caplog.text


@pytest.mark.parametrize("times", [1, 3])
def test_a_run_that_finds_no_memory_is_tried_again(simulate: Simulate, tiny: Truth, times: int) -> None:
    """ONNX Runtime takes memory while it runs. Rows of a batch that found none run again; without any, it is told."""
    path, wanted = tiny
    machine = simulate("cuda-python")
    with (
        cuda_provider(machine) as sessions,
        Embedder.open(path, config=config("onnxruntime-cuda", lanes=1)) as embedder,
    ):
        left, real = [None] * times, sessions[-1].run_with_iobinding

        def scarce(*args: Any) -> None:
            if left:
                left.pop()
                raise RuntimeError("Failed to allocate memory for requested buffer of size 1073741824")
            real(*args)

        sessions[-1].run_with_iobinding = scarce  # type: ignore[method-assign]
        if times == 1:
            right(embedder, REQUESTS, wanted)
        else:
            assert ended(asked(embedder), wanted)
            all_lanes(embedder, "alive")
            right(embedder, REQUESTS, wanted)
