"""ONNX Runtime's CUDA provider on a lane's stream: the vectors of the CPU, and nothing falls back in silence."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from embedge import Embedder, RuntimeConfig
from embedge.backends import onnxruntime as on_cpu
from embedge.backends.base import BackendModel
from embedge.backends.cores import LaneSplit
from embedge.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.bundle import manifest as m
from embedge.cuda import CudaError
from embedge.errors import BackendError, BundleError, Unavailable
from embedge.inputs.items import ItemInput
from tests.simulated.device import Device
from tests.simulated.fixtures import ORDERS, Simulate, simulate
from tests.simulated.onnxruntime_gpu import IOBinding, Session, cuda_provider
from tests.tiny import tiny_bundle

__all__ = ["simulate"]

BOARDS = {"server": Device(), "jetson": Device(integrated=True)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("tiny") / "tiny"))


def loaded(bundle: Bundle, **settings: Any) -> OnnxRuntimeCudaBackend:
    """Return a runner that has made the bundle's graph ready."""
    config = RuntimeConfig(backend="onnxruntime-cuda", **settings)
    runner = OnnxRuntimeCudaBackend(config)
    assert runner.missing() == ""
    probes = Probes(bundle.manifest, {"text": ItemInput.of(bundle, "text", config).probe()})
    runner.load(BackendModel(bundle, config, ("encoder",), probes))
    return runner


@contextlib.contextmanager
def opened(bundle: Bundle, **settings: Any) -> Iterator[Any]:
    """Open the encoder in a lane that is this thread."""
    slot = loaded(bundle, **settings).slot(threads=1, wake=lambda: None)
    try:
        session = slot.open("encoder", bundle.graph("encoder"))
        yield session
        session.close()
    finally:
        slot.close()


def feeds(seed: int, rows: int = 3, length: int = 8) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(1, 20, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def wanted(bundle: Bundle, given: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the CPU makes of a batch."""
    slot = on_cpu.OnnxRuntimeBackend(RuntimeConfig()).slot(threads=1, wake=lambda: None)
    return slot.open("encoder", bundle.graph("encoder")).start(given)()["dense"]


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_vectors_are_those_of_the_cpu_with_batches_in_flight(
    simulate: Simulate, bundle: Bundle, provider: str, board: str, order: str, seed: int
) -> None:
    batches = [feeds(number % 2, *((3, 8), (1, 32))[number % 3 // 2]) for number in range(8)]
    truth = [wanted(bundle, each) for each in batches]
    machine = simulate(provider, order=order, seed=seed, device=BOARDS[board])
    with cuda_provider(machine), opened(bundle) as session:
        pending: list[Any] = []
        found = []
        for each in batches:
            if len(pending) == 2:
                found.append(pending.pop(0)()["dense"])
            pending.append(session.start(each))
        found.extend(result()["dense"] for result in pending)
    for vector, true in zip(found, truth, strict=True):
        np.testing.assert_array_equal(vector, true)


@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_an_embedder_gives_the_vectors_of_the_cpu(simulate: Simulate, bundle: Bundle, provider: str) -> None:
    texts = [f"a cat sleeps {'and runs ' * (number % 7)}" for number in range(60)]
    with Embedder(bundle, RuntimeConfig(backend="onnxruntime", warm_up_seconds=0)) as embedder:
        truth = embedder.embed(texts)
    config = RuntimeConfig(backend="onnxruntime-cuda", lanes=2, warm_up_seconds=0, max_batch_size=4)
    with (
        cuda_provider(simulate(provider, order="random", seed=5)),
        Embedder(bundle, config) as embedder,
    ):
        assert embedder.backend_reason == "onnxruntime-cuda was asked for"
        np.testing.assert_array_equal(embedder.embed(texts), truth)


def test_a_run_does_not_wait_for_the_gpu(simulate: Simulate, bundle: Bundle) -> None:
    machine = simulate("cuda-python")  # late: what is waited for runs
    with cuda_provider(machine), opened(bundle) as session:
        result = session.start(feeds(0))
        assert machine.faults.kernels == 0
        result()
        assert machine.faults.kernels == 1


def test_the_session_is_on_the_lanes_stream_with_exact_products(simulate: Simulate, bundle: Bundle) -> None:
    machine = simulate("cuda-python")
    with cuda_provider(machine) as sessions, opened(bundle, scratch_bytes=1 << 20) as session:
        options = sessions[-1].options
        assert int(options["user_compute_stream"]) == session._lane.stream.handle
        assert (options["use_tf32"], options["gpu_mem_limit"]) == ("0", str(1 << 20))
        assert not any(each.fallback for each in sessions)


def test_a_lane_has_memory_for_the_largest_batch_from_the_start(simulate: Simulate, bundle: Bundle) -> None:
    machine = simulate("cuda-python")
    with cuda_provider(machine), opened(bundle, max_batch_size=16) as session:
        there = machine.memory.alive()
        session.start(feeds(0, 16, 32))()
        assert machine.memory.alive() == there


def test_what_is_missing_is_said_with_the_way_to_get_it(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = simulate()  # no library that gives CUDA
    assert "made without CUDA; pip install 'embedge[gpu]'" in OnnxRuntimeCudaBackend(RuntimeConfig()).missing()
    with cuda_provider(machine):
        missing = OnnxRuntimeCudaBackend(RuntimeConfig()).missing()
        assert "cuda-python" in missing
        assert "pip install 'embedge[cuda]'" in missing
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert (
        "onnxruntime-gpu is not installed; pip install 'embedge[gpu]'"
        in OnnxRuntimeCudaBackend(RuntimeConfig()).missing()
    )


def test_a_provider_that_does_not_load_is_refused(simulate: Simulate, bundle: Bundle) -> None:
    with cuda_provider(simulate("cuda-python"), loads=False), pytest.raises(Unavailable, match=r"cuda,cudnn"):
        loaded(bundle)


def test_a_provider_that_fails_to_load_is_refused(
    simulate: Simulate, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **more: Any) -> Session:
        raise RuntimeError("CUDA_PATH is set but CUDA wasn't able to be loaded")

    with cuda_provider(simulate("cuda-python")), monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", refuse)
        with pytest.raises(Unavailable, match="cannot load its CUDA provider: CUDA_PATH is set"):
            loaded(bundle)


def test_a_graph_that_cannot_be_read_is_a_broken_bundle(simulate: Simulate, bundle: Bundle, tmp_path: Path) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"no graph")
    with cuda_provider(simulate("cuda-python")):
        slot = loaded(bundle).slot(threads=1, wake=lambda: None)
        with pytest.raises(BundleError, match=r"model\.onnx: ONNX Runtime cannot load the graph"):
            slot.open("encoder", damaged)
        slot.close()


def test_the_version_and_the_device_name_all_that_counts(simulate: Simulate, bundle: Bundle) -> None:
    with cuda_provider(simulate("cuda-python")):
        runner = loaded(bundle)
        assert runner.device() == "Simulated GPU"
        assert runner.version().startswith(f"{onnxruntime.__version__}, cuda-python ")
        runner.close()


def test_lanes_are_tried_that_have_room_for_weights_of_their_own(simulate: Simulate, bundle: Bundle) -> None:
    machine = simulate("cuda-python", device=Device(memory=80 << 30))
    with cuda_provider(machine):
        assert OnnxRuntimeCudaBackend(RuntimeConfig()).candidates() == [LaneSplit(1, 1)], (
            "nothing is known before a model is loaded"
        )
        runner = loaded(bundle, scratch_bytes=1 << 30)
        machine.memory.taken = (80 << 30) - (4 << 30)  # three times a lane's, and weights
        assert runner.candidates() == [LaneSplit(1, 1), LaneSplit(2, 1)]


def test_a_run_that_breaks_the_context_is_told(simulate: Simulate, bundle: Bundle) -> None:
    machine = simulate("cuda-python", order="eager")
    with cuda_provider(machine), opened(bundle) as session:
        machine.faults.fail()
        for _ in range(3):
            with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
                session.start(feeds(0))()


def test_what_onnxruntime_refuses_fails_that_batch(simulate: Simulate, bundle: Bundle) -> None:
    with cuda_provider(simulate("cuda-python")) as sessions, opened(bundle) as session:

        def refuse(*args: Any) -> None:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

        sessions[-1].run_with_iobinding = refuse  # type: ignore[method-assign]
        for _ in range(3):
            with pytest.raises(BackendError, match="ONNX Runtime failed on the GPU: Failed to allocate"):
                session.start(feeds(0))
        del sessions[-1].run_with_iobinding
        np.testing.assert_array_equal(session.start(feeds(1))()["dense"], wanted(bundle, feeds(1)))


def test_a_graph_whose_outputs_only_the_data_size_runs_by_itself(
    simulate: Simulate, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    graph = bundle.manifest.graphs["encoder"]
    free = msgspec.structs.replace(graph, outputs=(m.TensorSpec(name="dense", dtype="float32", shape=("found", 16)),))
    vague = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, graphs={"encoder": free}))
    machine = simulate("cuda-python")
    with cuda_provider(machine), caplog.at_level(logging.WARNING), opened(vague) as session:
        np.testing.assert_array_equal(session.start(feeds(1))()["dense"], wanted(bundle, feeds(1)))
        assert "graph encoder runs one batch at a time: its inputs do not tell the axis 'found'" in caplog.text
        machine.faults.fail()
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            session.start(feeds(0))
        assert session._lane._context.broken is not None  # all lanes hear of it


def test_the_simulated_package_has_no_name_that_the_real_one_lacks() -> None:
    for simulated, real in [(Session, onnxruntime.InferenceSession), (IOBinding, onnxruntime.IOBinding)]:
        for name, method in vars(simulated).items():
            if not name.startswith("_"):
                assert list(signature(method).parameters) == list(signature(getattr(real, name)).parameters), name
