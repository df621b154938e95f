"""Puts simulated modules in the place of the real ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

import embedge.cuda
from tests.simulated import cuda_bindings, pycuda_driver
from tests.simulated.machine import Machine

__all__ = ["PROVIDERS", "modules", "place", "simulated"]

PROVIDERS = ("cuda-python", "pycuda")
_OURS = ("embedge.cuda.cuda_python", "embedge.cuda.pycuda")  # they keep what they imported


def modules(machine: Machine, *providers: str, tensorrt: str = "") -> dict[str, ModuleType | None]:
    """Return what `sys.modules` has to hold. None: cannot be imported.

    providers: "cuda-python", "pycuda", also of a version: "cuda-python==12.9.1". tensorrt: the version, "" for none.
    """
    versions = {name: version for name, _, version in (each.partition("==") for each in providers)}
    if unknown := versions.keys() - set(PROVIDERS):
        raise ValueError(f"no such provider: {unknown}; there are {PROVIDERS}")
    found: dict[str, ModuleType | None] = dict.fromkeys(
        ("cuda", "cuda.bindings", "cuda.bindings.driver", "pycuda", "pycuda.driver", "tensorrt")
    )
    if "cuda-python" in versions:
        found["cuda"], found["cuda.bindings"] = ModuleType("cuda"), ModuleType("cuda.bindings")
        found["cuda.bindings"].__version__ = versions["cuda-python"] or cuda_bindings.VERSION
        found["cuda.bindings.driver"] = cuda_bindings.build(machine)
    if "pycuda" in versions:
        found["pycuda"], found["pycuda.driver"] = ModuleType("pycuda"), pycuda_driver.build(machine)
        found["pycuda"].VERSION_TEXT = text = versions["pycuda"] or pycuda_driver.VERSION
        found["pycuda"].VERSION = tuple(int(part) for part in text.split("."))
    if tensorrt:
        from tests.simulated.tensorrt import build

        found["tensorrt"] = build(machine, tensorrt)
    return found


def place(found: dict[str, ModuleType | None], where: dict[str, ModuleType]) -> None:
    """Put modules into `sys.modules`, each an attribute of its parent."""
    for name, module in found.items():
        where[name] = module  # type: ignore[assignment]
        if module is not None:
            module.__spec__ = ModuleSpec(name, None, is_package=True)
            module.__path__ = []  # so that what is below it can be imported
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(where[parent], child, module)


@contextmanager
def simulated(machine: Machine, *providers: str, tensorrt: str = "") -> Iterator[Machine]:
    """Let `import cuda.bindings.driver` and the like find the machine, and nothing that is not named here.

    tensorrt: the version to simulate, "" for none. At the end, what broke a rule or leaked fails the test; if the test
    fails by itself, its error is the cause of that one.
    """
    found = modules(machine, *providers, tensorrt=tensorrt)
    kept = {name: sys.modules.pop(name) for name in (*found, *_OURS) if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedge.cuda, "_drivers", {})
        patch.setattr(embedge.cuda.SharedContext, "_all", {})
        for name in _OURS:
            patch.delattr(name, raising=False)
        place(found, sys.modules)
        try:
            yield machine
        except Exception as error:
            if violations := machine.close():
                raise AssertionError(told(violations)) from error
            raise
        finally:
            for name in (*found, *_OURS):
                sys.modules.pop(name, None)
                vars(embedge.cuda).pop(name.rpartition(".")[2], None)
            sys.modules.update(kept)
    if violations := machine.close():
        pytest.fail(told(violations), pytrace=False)


def told(violations: list[str]) -> str:
    return "\n  ".join(["rules broken on the simulated GPU:", *violations])
