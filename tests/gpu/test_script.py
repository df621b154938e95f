"""The whole run in a process of its own, over a simulated GPU and a tiny model, and where there is no GPU at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import page, records
from benchmarks.gpu.cases import Case, refer
from tests.gpu.rig import SITE
from tests.structure.code import ROOT

QUICK = ["--rounds", "2", "--batches", "3", "--calls", "2"]
# The CUDA provider of ONNX Runtime is a patch of the real package, which no path can bring.
PATCHED = """
import runpy, sys
from embedge_simulated import machine
from tests.simulated.onnxruntime_gpu import cuda_provider
sys.argv[0] = "benchmarks.gpu"
with cuda_provider(machine):
    runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""


def run(arguments: list[str], cache: Path, *, code: str = "", **settings: object) -> subprocess.CompletedProcess[str]:
    paths = [str(SITE), str(ROOT)] if settings else [str(ROOT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "EMBEDGE_SIMULATED": json.dumps(settings),
        "EMBEDGE_CACHE": str(cache),
    }
    start = ["-c", code] if code else ["-m", "benchmarks.gpu"]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110)


def test_the_whole_run_measures_all_that_is_there(cases: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    ended = run(
        ["--bundles", str(cases), "--json", str(file), *QUICK],
        tmp_path,
        code=PATCHED,
        providers=["cuda-python", "pycuda"],
        tensorrt="11.4.0",
        order="random",
        seed=3,
        device={"name": "Orin"},
    )
    assert ended.returncode == 0, ended.stderr
    found = records.read(file)
    assert ended.stdout.strip() == page.render(found).strip()
    assert found.good
    assert found.device.name == "Orin"
    assert [each.provider for each in found.checks] == ["cuda-python", "pycuda"]
    assert not [each for each in found.missing if "failed" in each]
    assert any("PyTorch" in each for each in found.missing)
    ways = [(each.precision, each.way) for each in found.parity]
    backends, precisions = ("tensorrt", "onnxruntime-cuda"), ("float32", "float16", "bfloat16")
    assert ways == [(precision, backend) for precision in precisions for backend in backends]
    assert {each.what for each in found.ratios} == {"overlap", "latency", "throughput"}
    overlap = [each for each in found.ratios if each.what == "overlap"]
    assert len(overlap) == 6
    assert {each.target for each in overlap} == {1.3}
    compared = {(each.way, each.base) for each in found.ratios if each.what == "throughput"}
    assert compared == {(f"{each}, 3 lanes", "ONNX Runtime CUDA, plain") for each in backends}
    recorded = {(each.way, each.base) for each in found.ratios if each.what == "latency"}
    assert recorded == {("tensorrt, recorded graphs", "tensorrt, nothing recorded")}
    assert len(found.latencies) == 9


def test_with_only_a_driver_that_is_checked_and_the_rest_is_said_to_be_missing(cases: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    ended = run(["--bundles", str(cases), "--json", str(file), *QUICK], tmp_path, providers=["cuda-python"])
    assert ended.returncode == 0, ended.stderr
    found = records.read(file)
    assert [each.good for each in found.checks] == [True]
    assert (found.parity, found.rates, found.ratios, found.latencies) == ((), (), (), ())
    for name in ("tensorrt: ", "onnxruntime-cuda: ", "PyTorch: ", "pycuda: "):
        assert any(name in each for each in found.missing)
        assert name in ended.stdout


def test_without_a_gpu_it_says_what_is_missing_and_ends_with_2(cases: Path, tmp_path: Path) -> None:
    ended = run(["--bundles", str(cases)], tmp_path, providers=["cuda-python"], device={"count": 0})
    assert ended.returncode == 2
    assert "nothing is measured" in ended.stderr
    assert "cuda-python: " in ended.stderr
    assert "pip install 'embedge[pycuda]'" in ended.stderr
    assert ended.stdout == ""


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    ended = run(["--bundles", str(tmp_path)], tmp_path, providers=["cuda-python"])
    assert ended.returncode == 1
    assert "no models here; make them with" in ended.stderr


def test_the_run_needs_no_library_that_makes_models(cases: Path, tmp_path: Path) -> None:
    without = dict.fromkeys(("transformers", "onnx", "onnxscript", "embedge_export", "torch", "psutil"))
    code = f"import sys; sys.modules.update({without})\n" + PATCHED
    ended = run(["--bundles", str(cases), *QUICK], tmp_path, code=code, providers=["cuda-python"])
    assert ended.returncode == 0, ended.stderr
    assert "onnxruntime-cuda, 3 lanes" in ended.stdout
    assert "failed" not in ended.stdout


def test_vectors_that_are_not_the_models_end_the_run_with_1(cases: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    shutil.copytree(cases / "tiny" / "float32", folder / "float32")
    lone, truth = Case("tiny", cases / "tiny").reference()
    refer(folder, lone, truth[::-1])
    ended = run(["--bundles", str(folder.parent), *QUICK], tmp_path, code=PATCHED, providers=["cuda-python"])
    assert ended.returncode == 1
    assert "a check or parity missed" in ended.stderr
    assert "**missed**" in ended.stdout
