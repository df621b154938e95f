"""Imports run one way: export -> runtime, benchmarks -> runtime, and inside the runtime from the wire to the ground."""

from __future__ import annotations

import re

import pytest

from tests.structure.code import ROOT, Module, modules

# A module imports from layers above its own line here, and from its own package. The ground comes first.
LAYERS = (
    "errors version arrays atomic",
    "cache toml trace cancel config content",
    "bundle cuda",
    "batches outputs",
    "request similarity",
    "backends",
    "inputs scheduling scoring split",
    "lanes",
    "calls",
    "embedder",
    "async_embedder",
    "repository verify doctor",
    "v1 oip",
    "wire",
    "client",
    "async_client",
    "serving",
    "commands",
    "cli",
    "__main__",
)
RANK = {f"embedge.{name}": rank for rank, line in enumerate(LAYERS) for name in line.split()}

# The runtime is what a device has: none of these may be named in it, not even in a function.
NOT_IN_RUNTIME = {
    "embedge_export",
    "embedge_bench",
    "torch",
    "transformers",
    "sentence_transformers",
    "onnx",
    "onnxscript",
}
TORCH = {"torch", "transformers", "sentence_transformers"}
MAY_IMPORT_TORCH = (
    "embedge_export.sources",
    "embedge_export.onnx_graph.files",
    "embedge_export.quiet",
)  # quiet hushes them


def unit(name: str) -> str:
    """Return the noun that a module belongs to: `embedge.backends.onnxruntime` is of `embedge.backends`."""
    return ".".join(name.split(".")[:2])


def rank(name: str) -> int:
    assert unit(name) in RANK, f"{name} has no layer yet; put it into LAYERS where it belongs"
    return RANK[unit(name)]


@pytest.mark.parametrize("module", modules("embedge"), ids=lambda module: module.name)
def test_runtime_imports_run_towards_the_ground(module: Module) -> None:
    if module.name == "embedge":  # the public face sees everything
        return
    for line, name in module.imports():
        if name.partition(".")[0] != "embedge":
            continue
        same = unit(name) == unit(module.name)
        assert same or rank(name) < rank(module.name), f"{module.path}:{line}: imports {name}, which is above it"


def test_the_page_on_architecture_lists_every_module_in_the_order_of_layers() -> None:
    there = {unit(module.name) for module in modules("embedge") if module.name != "embedge"}
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Runtime modules")[2]
    listed = [f"embedge.{name}" for name in re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)]
    assert sorted(listed) == sorted(there)
    assert listed == sorted(listed, key=rank)


@pytest.mark.parametrize("module", modules("embedge"), ids=lambda module: module.name)
def test_runtime_names_no_export_side_package(module: Module) -> None:
    for line, name in module.imports():
        assert name.partition(".")[0] not in NOT_IN_RUNTIME, f"{module.path}:{line}: the runtime imports {name}"


@pytest.mark.parametrize(
    ("package", "other"), [("embedge_export", "embedge_bench"), ("embedge_bench", "embedge_export")]
)
def test_export_and_benchmarks_do_not_know_each_other(package: str, other: str) -> None:
    for module in modules(package):
        for line, name in module.imports():
            assert name.partition(".")[0] != other, f"{module.path}:{line}: imports {name}"


def test_torch_stays_in_sources_and_graph() -> None:
    for module in modules("embedge_export"):
        for line, name in module.imports():
            if name.partition(".")[0] in TORCH:
                assert module.name.startswith(MAY_IMPORT_TORCH), f"{module.path}:{line}: imports {name}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_heavy_packages_are_imported_lazily_in_export(module: Module) -> None:
    """`embedge --help` loads every command's module, so cli modules import no heavy package at their top."""
    if not module.name.endswith("cli"):
        return
    heavy = TORCH | {"onnx", "onnxruntime", "onnxscript", "grpc", "pyarrow", "tensorrt"}
    for node in module.tree.body:
        names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
        top = {str(getattr(node, "module", "")).partition(".")[0], *(name.partition(".")[0] for name in names)}
        assert not top & heavy, f"{module.path}:{node.lineno}: imports {top & heavy} at its top"
