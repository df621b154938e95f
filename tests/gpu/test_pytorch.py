"""PyTorch beside our lanes, on the CPU: a program is loaded and compared; one that is broken is told."""

from __future__ import annotations

import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.gpu import measure, measured
from benchmarks.gpu.cases import Case, Items, model_of
from benchmarks.gpu.measure import Pace
from benchmarks.gpu.measured import Found, Measured
from benchmarks.gpu.peers import PyTorch
from embedge import RuntimeConfig
from tests.simulated.fixtures import Simulate
from tests.simulated.onnxruntime_gpu import cuda_provider

PACE = Pace(rounds=1, batches=2, calls=1)


class Mean(nn.Module):
    """What the tiny graph computes, or its opposite."""

    def __init__(self, table: np.ndarray, sign: float = 1.0) -> None:
        super().__init__()
        self.table = nn.Parameter(sign * torch.from_numpy(table.copy()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        inside = attention_mask.to(self.table.dtype)[..., None]
        mean = (self.table[input_ids] * inside).sum(1) / inside.sum(1)
        return (nn.functional.normalize(mean, dim=1),)


def save(case: Case, precision: str, sign: float = 1.0) -> None:
    model = onnx.load(case.bundles["float32"] / "model.onnx")
    table = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "table")
    ids = torch.zeros(2, 4, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    program = torch.export.export(Mean(table, sign), (), given, dynamic_shapes=dict.fromkeys(given, axes))
    torch.export.save(program, case.folder / f"{precision}.pt2")


@pytest.fixture
def own(case: Case, tmp_path: Path) -> Case:
    """The tiny model in float32 only, which a test may change."""
    (tmp_path / "tiny").mkdir()
    shutil.copytree(case.bundles["float32"], tmp_path / "tiny" / "float32")
    shutil.copy(case.folder / "reference.npz", tmp_path / "tiny")
    return Case("tiny", tmp_path / "tiny")


def measure_all(case: Case, monkeypatch: pytest.MonkeyPatch, *backends: str) -> Found:
    monkeypatch.setattr(measured, "PyTorch", partial(PyTorch, device="cpu"))
    found = Found(missing=[])
    Measured(case, "float32", found, PACE, backends, torch=True).all()
    return found


def test_a_program_gives_the_vectors_of_the_graph(own: Case) -> None:
    save(own, "float32")
    items = Items(model_of(own.bundles["float32"], RuntimeConfig()))
    with closing(PyTorch(own.folder / "float32.pt2", name="PyTorch", device="cpu")) as way:
        assert max(measure.parity(way, items, own.reference())) < 1e-6


def test_it_is_measured_in_the_same_rounds(simulate: Simulate, own: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    save(own, "float32")
    save(own, "float16")
    with cuda_provider(simulate("cuda-python")):
        found = measure_all(own, monkeypatch, "onnxruntime-cuda")
    assert not [each for each in found.missing if "PyTorch" in each]
    bases = {each.base for each in found.ratios if each.what == "throughput"}
    assert bases == {"ONNX Runtime CUDA, plain", "PyTorch, float32", "PyTorch, float16"}


def test_what_is_broken_or_missing_is_told_and_the_rest_is_measured(
    simulate: Simulate, own: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(own, "float32", sign=-1.0)
    with cuda_provider(simulate("cuda-python")):
        found = measure_all(own, monkeypatch, "onnxruntime-cuda")
    assert any("PyTorch, float32: failed: its vectors are not the model's" in each for each in found.missing)
    assert any("no program for PyTorch in float16" in each for each in found.missing)
    assert {each.base for each in found.ratios if each.what == "throughput"} == {"ONNX Runtime CUDA, plain"}


def test_alone_it_is_measured_too(own: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    save(own, "float32")
    found = measure_all(own, monkeypatch)
    assert [(each.way, each.shape) for each in found.rates] == [
        ("PyTorch, float32", "4 x 32"),
        ("PyTorch, float32", "32 x 32"),
    ]
    assert found.ratios == []
