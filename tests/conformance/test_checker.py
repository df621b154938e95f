"""The checker finds what is wrong: each kind of mistake, in a line of its own, beside lines that are right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance import checker
from tests.conformance.api import Module
from tests.conformance.conftest import Check
from tests.conformance.views import View

TENSORRT = View(
    "tests/code.py",
    "tensorrt",
    handles=("trt",),
    kinds={"context": "IExecutionContext", "config": "IBuilderConfig", "engine": "ICudaEngine", "error": "ParserError"},
)
RIGHT = """
from typing import Any
def load() -> Any: ...
def use(context: Any, config: Any, engine: Any, error: Any, ours: list[int]) -> None:
    trt = load()
    context.set_input_shape("ids", (1, 2))
    context.execute_async_v3(stream_handle=5)
    config.max_aux_streams = 0
    config.clear_flag(trt.BuilderFlag.TF32)
    name = f"{error.desc()} {error.code().name}"
    ours.append(len(engine.get_tensor_shape("ids")))
"""
WRONG = {
    "a method that is not there": "context.execute_async_v4(5)",
    "a keyword that is not there": "context.execute_async_v3(stream=5)",
    "one argument too many": "context.execute_async_v3(5, 6)",
    "one argument too few": "context.set_tensor_address('ids')",
    "an argument of another type": "context.set_tensor_address('ids', '5')",
    "no overload takes it": "context.set_input_shape('ids', 5)",
    "a property that is not there": "config.max_streams = 1",
    "a property that cannot be set": "engine.num_io_tensors = 1",
    "a property of another type": "config.max_aux_streams = 'many'",
    "a member that went with version 11": "config.set_flag(trt.BuilderFlag.FP16)",
    "a member of another enumeration": "config.set_flag(trt.MemoryPoolType.WORKSPACE)",
    "a class that is not there": "trt.IContext()",
    "a name within a text": "print(f'{error.description()}')",
    "what a method returns has no such name": "engine.create_execution_context().name_of_it",
    "a method that is called where nobody looks": "[each.get_names() for each in [engine]]",
}


@pytest.fixture(scope="module")
def reported(release: Callable[[str], Module], check: Check) -> checker.Report:
    sources = [(TENSORRT, f"{RIGHT}    {wrong}\n") for wrong in WRONG.values()]
    return check(release("tensorrt-newest"), "tensorrt", [(TENSORRT, RIGHT), *sources])


@pytest.mark.parametrize(("number", "kind"), list(enumerate(WRONG, start=1)), ids=list(WRONG))
def test_a_mistake_is_found(number: int, kind: str, reported: checker.Report) -> None:
    found = [each for each in reported.misfits if each.startswith(f"tests_code_{number}:")]
    assert len(found) == 1, f"{kind}: {found}"


def test_what_is_right_is_no_mistake(reported: checker.Report) -> None:
    assert [each for each in (*reported.misfits, *reported.unknown) if each.startswith("tests_code_0:")] == []


def test_a_value_of_unknown_class_is_no_way_around(release: Callable[[str], Module], check: Check) -> None:
    hidden = f"{RIGHT}    for each in load():\n        each.execute_async_v3(5, 6)\n"
    report = check(release("tensorrt-newest"), "tensorrt", [(TENSORRT, hidden)])
    assert [each.rpartition(": ")[2] for each in report.unknown] == ["what class is `each`?"]


def test_a_method_that_nobody_would_call_is_found(release: Callable[[str], Module], check: Check) -> None:
    source = """
def make(trt):
    class Monitor(trt.IProgressMonitor):
        def step_complete(self, phase_name: str, step: int) -> bool:
            return True
        def phase_started(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            pass
        def phase_finish(self, phase_name: str, steps: int) -> None:
            pass
"""
    renamed, unlike = sorted(check(release("tensorrt-newest"), "tensorrt", [(TENSORRT, source)]).misfits)
    assert "no method `phase_started`" in renamed
    assert "phase_finish" in unlike


def test_outputs_and_enumerations_of_cuda_are_counted(release: Callable[[str], Module], check: Check) -> None:
    view = View("tests/code.py", "cuda.bindings.driver", handles=("cu",))
    source = """
def use(cu) -> None:
    code, free, total = cu.cuMemGetInfo()
    code, free = cu.cuMemGetInfo()
    cu.cuStreamBeginCapture(5, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    cu.cuStreamBeginCapture(5, 1)
"""
    report = check(release("cuda-bindings-newest"), view.module, [(view, source)])
    assert len(report.misfits) == 2
    assert "too many" in " ".join(report.misfits).lower()
