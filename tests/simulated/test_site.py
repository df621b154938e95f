"""A process of its own finds the simulated modules by PYTHONPATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SITE = Path(__file__).parent / "site"


def run(code: str, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SITE), "EMBEDGE_SIMULATED": json.dumps(settings)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_a_process_has_a_machine_of_its_own() -> None:
    code = "from cuda.bindings import driver as cu; cu.cuInit(0); print(cu.cuDeviceGetName(40, 0)[1])"
    ended = run(code, providers=["cuda-python"], device={"name": "Orin"})
    assert (ended.returncode, ended.stdout[:8]) == (0, "b'Orin\\x")


def test_pycuda_and_cuda_python_share_it() -> None:
    code = (
        "import pycuda.driver as d, cuda.bindings.driver as c; d.init(); x = d.Device(0).retain_primary_context();"
        "x.push(); assert int(c.cuCtxGetCurrent()[1]) == x.handle; x.pop(); x.detach()"
    )
    ended = run(code, providers=["cuda-python", "pycuda"])
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["pycuda.driver", "tensorrt"])
def test_what_is_not_named_cannot_be_imported(name: str) -> None:
    ended = run(f"import {name}", providers=["cuda-python"])
    assert "ModuleNotFoundError" in ended.stderr


def test_a_broken_rule_ends_the_process_with_a_code() -> None:
    ended = run("from cuda.bindings import driver as cu; cu.cuCtxPopCurrent()", providers=["cuda-python"])
    assert ended.returncode == 99
    assert "no context to pop" in ended.stderr
