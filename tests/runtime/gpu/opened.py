"""Embedders over the simulated GPU: which backend, library and board they have, and many callers at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedge import Embedder, Reply, Request, RuntimeConfig
from embedge.backends.tensorrt import backend as runner
from embedge.serving.config import ServeConfig
from embedge.serving.server import Server
from tests.runtime.serving.test_wire import same
from tests.simulated.device import Device
from tests.simulated.fixtures import Simulate
from tests.simulated.machine import Machine
from tests.simulated.onnxruntime_gpu import cuda_provider
from tests.simulated.tensorrt.built import Here

__all__ = ["BACKENDS", "BOARDS", "CPU", "LONG", "all_at_once", "config", "gpu", "on_the_processor", "right", "served"]

BACKENDS = ("onnxruntime-cuda", "tensorrt")
BOARDS = {"server": Device(), "jetson": Device(integrated=True)}
CPU = RuntimeConfig(backend="onnxruntime", lanes=1, warm_up_seconds=0)
LONG = 60.0  # seconds after which a test that went wrong ends
_CALLERS = 6


def config(backend: str, **settings: Any) -> RuntimeConfig:
    """Return settings that measure nothing and make small batches, so that there are many."""
    quick = {"lanes": 3, "warm_up_seconds": 0, "max_batch_size": 4, "max_batch_tokens": 256}
    return RuntimeConfig(backend=backend, **{**quick, **settings})


@contextmanager
def gpu(simulate: Simulate, backend: str, provider: str = "cuda-python", **machine: Any) -> Iterator[Machine]:
    """Have a machine on which a backend can run; TensorRT's plans are built in this process."""
    with ExitStack() as stack:
        if backend == "tensorrt":
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(runner, "Builder", Here)
            yield simulate(provider, tensorrt="11.4.0", **machine)
        else:
            made = simulate(provider, **machine)
            stack.enter_context(cuda_provider(made))
            yield made


def all_at_once(run: Callable[[Request], Reply], requests: Sequence[Request], rounds: int = 3) -> list[list[Reply]]:
    """Send every request from many threads, some times over; return the replies by round."""
    with ThreadPoolExecutor(_CALLERS) as callers:
        futures = [[callers.submit(run, each) for each in requests] for _ in range(rounds)]
        return [[future.result(LONG) for future in sent] for sent in futures]


def right(embedder: Embedder, requests: Sequence[Request], wanted: Sequence[Reply], rounds: int = 3) -> None:
    """Check that many callers at once get what is wanted."""
    for replies in all_at_once(embedder.run, requests, rounds):
        for mine, theirs in zip(replies, wanted, strict=True):
            same(mine, theirs)


@asynccontextmanager
async def served(engines: Path, runtime: RuntimeConfig) -> AsyncIterator[Server]:
    """Serve all models of a repository from this event loop, on a free port."""
    server = Server(ServeConfig(repository=engines, port=0, runtime=runtime))
    await server.start()
    try:
        await server.load()
        yield server
    finally:
        await server.stop()


def on_the_processor(path: Path, requests: Sequence[Request]) -> list[Reply]:
    """Return what the CPU makes of them."""
    with Embedder.open(path, config=CPU) as embedder:
        return [embedder.run(each) for each in requests]
