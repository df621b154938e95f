"""What our code uses of TensorRT, CUDA, pycuda and ONNX Runtime is in the real ones, and takes what we give it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from embedge.backends.tensorrt.library import DTYPES
from tests.conformance.api import Module
from tests.conformance.conftest import Check
from tests.conformance.ours import CUDA, ONNXRUNTIME, PYCUDA, TENSORRT
from tests.conformance.views import View
from tests.structure.code import ROOT, modules

# What we promise to work with: JetPack 6 has TensorRT 10.3, JetPack 7.2 has 10.16. cuda-bindings before 12.9.1 are
# refused for another reason; 12.6.2 is the CUDA of JetPack 6.
RELEASES = [
    ("tensorrt-10.3.0", TENSORRT),
    ("tensorrt-10.16.1.11", TENSORRT),
    ("tensorrt-newest", TENSORRT),
    ("cuda-bindings-12.6.2.post1", CUDA),
    ("cuda-bindings-12.9.1", CUDA),
    ("cuda-bindings-newest", CUDA),
    ("pycuda-2026.1", PYCUDA),
    ("onnxruntime-newest", ONNXRUNTIME),
]
OURS = [*TENSORRT, *CUDA, *PYCUDA, *ONNXRUNTIME]
NEWEST = [RELEASES[2], *RELEASES[5:]]
Release = Callable[[str], Module]


@pytest.mark.parametrize(("name", "ours"), RELEASES, ids=[name for name, _ in RELEASES])
def test_all_that_we_use_is_there(name: str, ours: list[View], release: Release, check: Check) -> None:
    report = check(release(name), ours[0].module, [(view, None) for view in ours])
    assert report.misfits == []
    assert report.unknown == [], "the table in ours.py does not say what these are"


@pytest.mark.parametrize(("name", "ours"), NEWEST, ids=[name for name, _ in NEWEST])
def test_every_name_is_found_where_it_is_misspelt(name: str, ours: list[View], release: Release, check: Check) -> None:
    """Each name that is used in each of our files, wrong in one copy of the file."""
    module = release(name)
    wrong = [(view, source, used) for view in ours for used, source in misspelt(view, module)]
    report = check(module, ours[0].module, [(view, source) for view, source, _ in wrong])
    assert len(wrong) > 10
    said = "\n".join(report.misfits)
    missed = [f"{view.path}: {used}" for number, (view, _, used) in enumerate(wrong) if f"_{number}: " not in said]
    assert missed == []


def misspelt(view: View, module: Module) -> Iterator[tuple[str, str]]:
    """Yield each of the library's names that the file takes from something, and the file with the name misspelt."""
    nodes = [node for node in ast.walk(ast.parse(view.source())) if isinstance(node, ast.Attribute)]
    for name in sorted({node.attr for node in nodes if ast.unparse(node.value) != "self"} & names(module)):
        yield name, re.sub(rf"\.{name}\b", f".{name}x", view.source())


def names(module: Module) -> set[str]:
    """Return all that can be taken from a module and its objects."""
    outer = {name.rpartition(".")[2] for name in (*module.classes, *module.functions, *module.values)}
    return outer | {name for each in module.classes.values() for name in each.names()}


def asked(view: View) -> Iterator[str]:
    """Yield the names that the file asks for with getattr or hasattr, but for those of its own objects."""
    for node in ast.walk(ast.parse(view.source())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            owner, name = node.args[:2]
            if isinstance(name, ast.Constant) and not ast.unparse(owner).startswith("self."):
                yield str(name.value)


def test_names_that_only_some_versions_have_exist_in_one(release: Release) -> None:
    """`getattr(trt.X, "Y", None)` would hide a misspelt Y for ever."""
    known = {name for version, _ in RELEASES for name in names(release(version))} | {"name", "__version__"}
    guarded = {(view.path, name) for view in OURS for name in asked(view)}
    assert any(name == "STRONGLY_TYPED" for _, name in guarded)
    assert {(path, name) for path, name in guarded if name not in known} == set()


@pytest.mark.parametrize("name", [name for name, ours in RELEASES if ours is TENSORRT])
def test_dtypes_are_named_as_tensorrt_names_them(name: str, release: Release) -> None:
    assert {*DTYPES.values()} - release(name).find("DataType").members.keys() == set()


@pytest.mark.parametrize("name", [name for name, ours in RELEASES if ours is CUDA])
def test_attributes_of_a_device_are_there(name: str, release: Release) -> None:
    """Their names are put together when they are asked for."""
    asked = re.findall(r'\battribute\("(\w+)"\)', CUDA[0].source())
    assert len(asked) >= 4
    members = release(name).find("CUdevice_attribute").members
    assert {f"CU_DEVICE_ATTRIBUTE_{each}" for each in asked} - members.keys() == set()


def test_no_file_that_uses_them_is_forgotten(release: Release) -> None:
    """A file that imports one of them, or uses a name that only they have, is in ours.py."""
    listed = {view.path for view in OURS}
    nodes = {each: [*ast.walk(each.tree)] for each in modules()}
    own = {name for each in nodes.values() for name in defined(each)}
    theirs = {name for name in names(release("tensorrt-newest")) if "_" in name} - own
    found = set()
    for each, inside in nodes.items():
        imported = {name.split(".")[0] for _, name in each.imports()} & {"tensorrt", "cuda", "pycuda"}
        if imported or any(isinstance(node, ast.Attribute) and node.attr in theirs for node in inside):
            found.add(str(each.path.relative_to(ROOT)))
    assert found - listed == set()


def defined(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names of functions, classes, variables and attributes that a file makes."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            if node.value.id == "self":
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
