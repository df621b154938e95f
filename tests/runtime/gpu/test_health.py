"""A server whose GPU fails: callers get an error at once, health says NOT_SERVING meanwhile, and SERVING afterwards."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from embedge import AsyncClient, BackendError, Unavailable, cuda
from tests.runtime.gpu.asked import MODELS
from tests.runtime.gpu.opened import BACKENDS, LONG, config, gpu, on_the_processor, served
from tests.runtime.serving.test_health import NOT_SERVING, SERVING, Probe
from tests.simulated.fixtures import Simulate
from tests.tiny import tiny_repository

TEXTS = list(MODELS["tiny"].requests()[0].items)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_health_follows_the_gpu(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    engines = tiny_repository(tmp_path / "engines", "tiny", "other")
    (wanted,) = on_the_processor(engines / "tiny" / "1", MODELS["tiny"].requests()[:1])
    with gpu(simulate, backend, "pycuda") as machine:
        async with (
            served(engines, config(backend, lanes=2)) as server,
            AsyncClient(server.address) as client,
            Probe(server.address) as probe,
        ):
            assert await probe.status("tiny") == SERVING
            gate, driver = threading.Event(), cuda.choose()
            reset = driver.reset
            monkeypatch.setattr(
                driver, "reset", lambda: gate.wait(LONG) and reset()
            )  # lanes come back when we let them
            machine.faults.fail()
            with pytest.raises(BackendError, match="the lane failed"):
                await client.embed("tiny", TEXTS[:1])  # one batch
            for name in ("tiny", "other", ""):
                await probe.until(name, NOT_SERVING)
            with pytest.raises(Unavailable, match="no lane is alive; one is being rebuilt"):
                await client.embed("other", TEXTS)
            gate.set()
            for name in ("tiny", "other", ""):
                await probe.until(name, SERVING)
            found = await asyncio.gather(*(client.embed("tiny", TEXTS) for _ in range(8)))
            for each in found:
                np.testing.assert_array_equal(each, wanted.outputs["dense"].values)  # type: ignore[union-attr]
