"""Puts simulated modules in the place of the real ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from tests.simulated import cuda_bindings, pycuda_driver
from tests.simulated.machine import Machine

__all__ = ["PROVIDERS", "modules", "place", "simulated"]

PROVIDERS = ("cuda-python", "pycuda")


def modules(machine: Machine, *providers: str) -> dict[str, ModuleType | None]:
    """Return what `sys.modules` has to hold. None: cannot be imported. tensorrt="11.4.0" is for `simulated` to add."""
    unknown = set(providers) - set(PROVIDERS)
    if unknown:
        raise ValueError(f"no such provider: {unknown}; there are {PROVIDERS}")
    cuda, bindings, pycuda = (ModuleType(name) for name in ("cuda", "cuda.bindings", "pycuda"))
    bindings.__version__ = cuda_bindings.VERSION
    pycuda.VERSION, pycuda.VERSION_TEXT = pycuda_driver.VERSION, ".".join(map(str, pycuda_driver.VERSION))
    found = {"cuda": cuda, "cuda.bindings": bindings, "cuda.bindings.driver": cuda_bindings.build(machine)}
    if "cuda-python" not in providers:
        found = dict.fromkeys(found)
    others = {"pycuda": pycuda, "pycuda.driver": pycuda_driver.build(machine)}
    return found | (others if "pycuda" in providers else dict.fromkeys(others))


def place(found: dict[str, ModuleType | None], patch: pytest.MonkeyPatch) -> None:
    """Put modules into `sys.modules`, each an attribute of its parent, until the patch is undone."""
    for name, module in found.items():
        patch.setitem(sys.modules, name, module)
        if module is not None:
            module.__spec__ = ModuleSpec(name, None)
            module.__path__ = []  # a package, so that what is below it can be imported
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)


@contextmanager
def simulated(machine: Machine, *providers: str, tensorrt: str = "") -> Iterator[Machine]:
    """Let `import cuda.bindings.driver` and the like find the machine. tensorrt: the version to simulate, if any.

    Providers that are not named cannot be imported. At the end, what broke a rule or leaked fails the test.
    """
    found = modules(machine, *providers)
    if tensorrt:
        from tests.simulated.tensorrt import build

        found["tensorrt"] = build(machine, tensorrt)
    else:
        found["tensorrt"] = None
    with pytest.MonkeyPatch.context() as patch:
        place(found, patch)
        yield machine
    violations = machine.close()
    if violations:
        pytest.fail("rules broken on the simulated GPU:\n  " + "\n  ".join(violations), pytrace=False)
