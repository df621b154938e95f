"""Which TensorRT can be used, what is said where none can, and which plans a model needs."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from embedge import BackendError, RuntimeConfig, Unavailable
from embedge.backends.base import BackendModel
from embedge.backends.tensorrt import TensorRTBackend, library
from embedge.backends.tensorrt.keys import keys
from embedge.bundle import Bundle
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt.built import GPU, model_of
from tests.tiny import tiny_bundle
from tests.tiny_chain import tiny_chain
from tests.tiny_composed import tiny_composed

_ = simulate


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_known_versions_can_be_used(simulate: Simulate, version: str) -> None:
    simulate("cuda-python", tensorrt=version)
    assert library.missing() == ""
    assert library.version() == version
    assert TensorRTBackend(RuntimeConfig()).version().startswith(f"TensorRT {version}, cuda-python")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("8.6.1", "TensorRT 8.6.1 is too old; 10.3 is needed"),
        ("10.2.0", "is too old"),
        ("12.0", "TensorRT 12.0 is not known to this embedge, which works with 10 and 11; upgrade embedge"),
    ],
)
def test_other_versions_are_refused_with_what_to_do(simulate: Simulate, version: str, told: str) -> None:
    simulate("cuda-python", tensorrt=version)
    assert told in TensorRTBackend(RuntimeConfig()).missing()
    with pytest.raises(Unavailable, match="TensorRT"):
        library.load()


def test_without_tensorrt_it_says_how_to_get_it(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("cuda-python")
    assert "not installed" in library.missing()
    assert "pip install 'embedge[tensorrt]'" in library.missing()
    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr(library, "_JETSON", tmp_path / "nv_tegra_release")
    assert "JetPack" in library.missing()
    assert "--system-site-packages" in library.missing()


def test_a_tensorrt_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')\n")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "cannot be loaded: libnvinfer.so.11" in library.missing()


def test_without_a_gpu_it_says_so(simulate: Simulate) -> None:
    simulate(tensorrt="11.4.0")
    assert "no GPU can be used here" in TensorRTBackend(RuntimeConfig()).missing()


def test_there_is_one_logger_and_it_keeps_errors_of_any_thread(
    simulate: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    trt = library.load()
    logger = library.logger(trt)
    assert library.logger(trt) is logger
    with caplog.at_level(logging.DEBUG, "embedge.tensorrt"):
        for severity in (trt.ILogger.ERROR, trt.ILogger.WARNING, trt.ILogger.VERBOSE):
            thread = threading.Thread(target=logger.log, args=(severity, f"{severity.name} text"))
            thread.start()
            thread.join()
    assert logger.messages.take() == ["ERROR text"]
    assert logger.messages.take() == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_recorder_has_what_was_reported(simulate: Simulate) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    trt = library.load()
    recorder = library.recorder(trt)
    recorder.report_error(trt.ErrorCodeTRT.FAILED_ALLOCATION, "no room")
    assert recorder.num_errors() == 1
    assert recorder.get_error_code(0) is trt.ErrorCodeTRT.FAILED_ALLOCATION
    assert recorder.get_error_desc(0) == "no room"
    assert recorder.messages.take() == ["FAILED_ALLOCATION: no room"]
    recorder.clear()
    assert (recorder.num_errors(), recorder.has_overflowed()) == (0, False)


def test_a_key_names_profiles_and_flags(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"))
    key = keys(model, GPU)["encoder"]
    assert key.tensorrt == "11.4.0"
    assert [profile["input_ids"].most for profile in key.profiles] == [(64, 8), (64, 32)]
    assert (key.flags.level, key.flags.workspace, key.flags.tf32) == (2, 1 << 30, False)
    assert key.device.gpu == "Simulated GPU"


def test_settings_make_another_key(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    path = tiny_bundle(tmp_path / "tiny")
    settings = (
        RuntimeConfig(),
        RuntimeConfig(small_memory=False),
        RuntimeConfig(scratch_bytes=1 << 20),
        RuntimeConfig(max_batch_size=2),
        RuntimeConfig(max_batch_tokens=64),
        RuntimeConfig(lengths=(16,)),
    )
    found = [keys(model_of(path, config), GPU)["encoder"] for config in settings]
    assert len({key.digest() for key in found}) == len(found)
    assert found[1].flags.level > found[0].flags.level
    assert found[1].flags.workspace > found[0].flags.workspace
    assert found[2].flags.workspace == 1 << 20


def test_pieces_of_sets_have_plans_too(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_composed(tmp_path / "composed"), RuntimeConfig(towers=("pages",)))
    assert keys(model, GPU).keys() == {"text", "weigh"}


def test_a_graph_without_inputs_is_not_for_tensorrt(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    with pytest.raises(BackendError, match="graph 'start' cannot run on TensorRT: it has no inputs"):
        keys(model_of(tiny_chain(tmp_path / "chain")), GPU)
    assert keys(model_of(tiny_chain(tmp_path / "zeros", start=False)), GPU).keys() == {
        "series",
        "left",
        "right",
        "decoder",
    }


@pytest.mark.parametrize(
    ("dtype", "shape", "told"),
    [
        ("float64", ("batch", 16), "tensor 'dense' is float64"),
        ("float32", ("batch", "kept"), "the size 'kept' of its output 'dense' depends on the data"),
    ],
)
def test_what_lanes_cannot_read_is_not_for_tensorrt(
    simulate: Simulate, tmp_path: Path, dtype: str, shape: tuple[int | str, ...], told: str
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"))
    with pytest.raises(BackendError, match=told):
        keys(changed(model, dtype, shape), GPU)


def changed(model: BackendModel, dtype: str, shape: tuple[int | str, ...]) -> BackendModel:
    """Return the model with another output."""
    manifest = model.bundle.manifest
    graph = manifest.graphs["encoder"]
    output = msgspec.structs.replace(graph.outputs[0], dtype=dtype, shape=shape)
    graphs = {"encoder": msgspec.structs.replace(graph, outputs=(output,))}
    return replace(model, bundle=Bundle(model.bundle.path, msgspec.structs.replace(manifest, graphs=graphs)))
