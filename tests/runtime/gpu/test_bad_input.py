"""What a user meets where something is wrong with the GPU, its libraries or its plans: in processes of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.gpu.processes import Machine, embedded, on_the_processor
from tests.simulated.tensorrt.state import Troubles
from tests.tiny import tiny_repository

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_repository(tmp_path_factory.mktemp("repository") / "engines", "tiny")


@pytest.fixture(scope="module")
def truth(engines: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return on_the_processor(engines, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def machine(engines: Path, tmp_path: Path) -> Machine:
    return Machine(engines, tmp_path / "cache")


def plans(machine: Machine) -> list[Path]:
    return sorted(machine.cache.glob("plans/*/plan"))


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({"device": {"installed": False}}, "there is no NVIDIA driver.*: install it, and see with nvidia-smi"),
        ({"device": {"driver": 11040}}, "the NVIDIA driver supports CUDA 11.4, .* is for CUDA 13: update the driver"),
        ({"device": {"count": 0}}, "no GPU can be used here: cuda-python: "),
        ({"providers": []}, r"pip install 'embedge\[cuda\]'"),
        ({"tensorrt": ""}, r"TensorRT is not installed: .*pip install 'embedge\[tensorrt\]'"),
        ({"tensorrt": "12.0.0"}, "TensorRT 12.0.0 is not known to this embedge, which works with 10 and 11"),
    ],
    ids=["no driver", "old driver", "no GPU", "no CUDA library", "no TensorRT", "unknown TensorRT"],
)
def test_what_is_missing_is_said_in_one_line_and_the_processor_runs_the_model(
    machine: Machine, truth: str, has: dict[str, Any], says: str
) -> None:
    running = machine.start("embed", "tiny", **has)
    code, said = machine.ended("serve", ".", "--port", "0", "--backend", "tensorrt", **has)
    assert embedded(running)[0] == truth
    assert code == 2
    *_, last = said.splitlines()
    assert re.search(f"^embedge: backend 'tensorrt' cannot run here: .*{says}", last), said
    assert "Traceback" not in said


def test_a_plan_that_was_tampered_with_is_never_loaded(machine: Machine, truth: str) -> None:
    assert machine.ended("build", "tiny")[0] == 0
    (plan,) = plans(machine)
    good = plan.read_bytes()
    plan.chmod(0o600)
    plan.write_bytes(good[:-5] + b"other")
    found, said = embedded(machine.start("embed", "tiny"))
    assert found == truth
    assert "not used, and built again: the plan's SHA-256 is not the one in its record" in said
    assert plan.read_bytes() == good


def test_another_gpu_or_version_has_plans_of_its_own_and_the_first_keeps_its(machine: Machine, truth: str) -> None:
    assert machine.ended("build", "tiny")[0] == 0
    (first,) = plans(machine)
    before = first.stat().st_mtime_ns
    for has in ({"device": {"name": "Another GPU"}}, {"tensorrt": "10.3.0"}):
        assert embedded(machine.start("embed", "tiny", **has))[0] == truth
    assert len(plans(machine)) == 3
    code, said = machine.ended("build", "tiny")
    assert (code, first.stat().st_mtime_ns) == (0, before)
    assert "building its plan" not in said


def test_of_two_that_want_a_plan_one_builds_and_one_waits(machine: Machine, truth: str) -> None:
    both = [machine.start("embed", "tiny") for _ in range(2)]
    said = ""
    for each in both:
        found, words = embedded(each)
        assert found == truth
        said += words
    assert len(plans(machine)) == 1
    assert said.count("plans are proven without") == 1, "which the process that builds says: there was one"


@pytest.mark.parametrize(
    ("troubles", "says"),
    [
        (Troubles(memory=True), "ran out of memory while it built a plan: .*set small_memory"),
        (Troubles(crash=True), "the process building its plan crashed with SIGSEGV; .*update"),
        (Troubles(parse=[(3, "/attn", "Foo", "no importer")]), r"cannot read it: node 3 '/attn' \(Foo\): no importer"),
    ],
    ids=["memory", "crash", "parse"],
)
def test_a_build_that_fails_leaves_the_model_to_another_backend(
    machine: Machine, truth: str, troubles: Troubles, says: str
) -> None:
    code, said = machine.ended("build", "tiny", troubles=troubles)
    assert code != 0
    assert re.search(says, said.replace("\n", " "))
    found, said = embedded(machine.start("embed", "tiny", troubles=troubles))
    assert found == truth
    told = next(line for line in said.splitlines() if line.startswith("backend tensorrt is passed over: "))
    assert re.search(says, told)
    assert told.count("graph 'encoder'") == 1, "nothing is said twice"
    assert not plans(machine)


def test_a_cache_that_cannot_be_written_costs_the_plan_after_this_process(machine: Machine, truth: str) -> None:
    found, said = embedded(machine.start("embed", "tiny", cache=Path("/proc/none")))
    assert found == truth
    assert "cannot keep plans there" in said
    assert "or set EMBEDGE_CACHE to another directory" in said
