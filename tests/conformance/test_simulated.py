"""The simulated libraries have nothing that the real ones lack: code that runs on them calls what is there."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from tests.conformance.api import Module, misfit, signature
from tests.simulated import cuda_bindings, onnxruntime_gpu, pycuda_driver, tensorrt
from tests.simulated.machine import Machine

SIMULATED: dict[str, Callable[[], ModuleType]] = {
    "tensorrt-10.3.0": lambda: tensorrt.build(Machine(), "10.3.0"),
    "tensorrt-10.16.1.11": lambda: tensorrt.build(Machine(), "10.16.1"),
    "tensorrt-newest": lambda: tensorrt.build(Machine(), "11.4.0"),
    "cuda-bindings-newest": lambda: cuda_bindings.build(Machine()),
    "pycuda-2026.1": lambda: pycuda_driver.build(Machine()),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_the_real_one_has_all_that_is_simulated(name: str, release: Callable[[str], Module]) -> None:
    assert [*differences(SIMULATED[name](), release(name))] == []


def differences(ours: ModuleType, real: Module) -> Iterator[str]:
    """Yield what the simulated module has that the real one has not, or has otherwise."""
    for name, value in vars(ours).items():
        if name.startswith("_"):
            continue
        if not real.has(name):
            yield f"{name} is not there"
        elif not isinstance(value, type):
            yield from _function(name, value, real)
        elif issubclass(value, Enum):
            members = real.find(name).members
            for each in value:
                if members.get(each.name) != each.value:
                    yield f"{name}.{each.name} is {members.get(each.name)}, not {each.value}"
        elif not issubclass(value, Exception):
            yield from _class(name, value, real)


def _class(name: str, kind: type, real: Module) -> Iterator[str]:
    for each in sorted(_attributes(kind)):
        if not real.has(f"{name}.{each}"):
            yield f"{name}.{each} is not there"
        else:
            yield from _function(f"{name}.{each}", inspect.getattr_static(kind, each, None), real)


def _attributes(kind: type) -> set[str]:
    """Return the public names of a class, of what it inherits, and of what its methods set."""
    contents = [item for base in kind.__mro__[:-1] for item in vars(base).items()]
    names = {name for name, _ in contents}
    functions = [value.__func__ if isinstance(value, classmethod) else value for _, value in contents]
    for function in {inspect.unwrap(each) for each in functions if inspect.isfunction(each)}:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
        names |= {node.attr for node in nodes if ast.unparse(node.value) == "self"}
    return {each for each in names if not each.startswith("_")}


def _function(name: str, value: Any, real: Module) -> Iterator[str]:
    plain = inspect.isfunction(value) and "." in name  # the first parameter is the object
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if inspect.isroutine(value):
        found = inspect.signature(value)
        own = [*found.parameters.values()]
        if plain or (own and own[0].name in ("cls", "self")):
            own = own[1:]
        if why := misfit(found.replace(parameters=own), real.signatures(name)):
            yield f"{name}: {why}"


@pytest.mark.parametrize(
    ("name", "kind"), [("InferenceSession", onnxruntime_gpu.Session), ("IOBinding", onnxruntime_gpu.IOBinding)]
)
def test_the_real_onnxruntime_has_the_methods_that_are_simulated(
    name: str, kind: type, release: Callable[[str], Module]
) -> None:
    """Its fields are for tests to read; that our code does not is what test_ours holds."""
    real = release("onnxruntime-newest")
    methods = {each: value for each, value in vars(kind).items() if not each.startswith("_")}
    assert methods
    assert [why for each, value in methods.items() for why in _function(f"{name}.{each}", value, real)] == []


def test_wrong_names_parameters_and_members_are_found(release: Callable[[str], Module]) -> None:
    ours = tensorrt.build(Machine(), "11.4.0")

    class IExecutionContext(ours.IExecutionContext):
        def execute_async_v4(self, stream_handle: int) -> bool: ...
        def execute_async_v3(self, stream: int) -> bool: ...
        def set_tensor_address(self, name: str, memory: int = 0) -> bool: ...
        def infer_shapes(self, deep: bool) -> list[str]: ...
        def set_input_shape(self, name: str) -> bool: ...

        def report_to_profiler(self) -> bool:
            self.shapes = ()
            return False

    ours.IExecutionContext = IExecutionContext
    ours.BuilderFlag = Enum("BuilderFlag", {"FP16": 0, "TF32": 99})
    ours.IBuilder = ours.Builder
    found = [each.partition(":")[0].split()[0] for each in differences(ours, release("tensorrt-newest"))]
    wrong = "execute_async_v3 execute_async_v4 infer_shapes set_input_shape set_tensor_address shapes"
    members = ["BuilderFlag.FP16", "BuilderFlag.TF32"]
    assert sorted(found) == sorted([*members, "IBuilder", *(f"IExecutionContext.{each}" for each in wrong.split())])


def test_calls_of_cuda_answer_with_as_many_outputs(release: Callable[[str], Module]) -> None:
    """On a driver that was not started every call fails, and gives None for each output."""
    ours, real = cuda_bindings.build(Machine()), release("cuda-bindings-newest")
    for name in sorted(name for name in vars(ours) if name.startswith("cu")):
        wanted = signature(real.functions[name][0])
        given = [
            next(iter(getattr(ours, kind))) if (kind := each.annotation).startswith("CU") else 1
            for each in wanted.parameters.values()
        ]
        answer = getattr(ours, name)(*given)
        outputs = wanted.return_annotation.removeprefix("tuple[").removesuffix("]").split(", ")
        assert len(answer) == len(outputs), f"{name} answers {answer}, the real one {outputs}"
