"""Compares the simulated modules with the real ones: every name, enum member, parameter and value."""

from __future__ import annotations

import inspect
import re
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["cuda_bindings_differences", "pycuda_differences"]


def cuda_bindings_differences(simulated: ModuleType, real: ModuleType) -> list[str]:
    """Return what the simulated `cuda.bindings.driver` has that the real one has not, or has otherwise."""
    found: list[str] = []
    for name, ours in vars(simulated).items():
        if name.startswith("__"):
            continue
        theirs = getattr(real, name, None)
        if theirs is None:
            found.append(f"{name} is not there")
        elif isinstance(ours, type) and issubclass(ours, IntEnum):
            found += _members(name, ours, theirs)
        elif isinstance(ours, int) and ours != int(theirs):
            found.append(f"{name} is {int(theirs)}, not {ours}")
        elif name.startswith("cu") and (wanted := _signature(theirs)) != list(inspect.signature(ours).parameters):
            found.append(f"{name} takes {wanted}, not {list(inspect.signature(ours).parameters)}")
    return found


def _members(name: str, ours: type[IntEnum], theirs: Any) -> list[str]:
    real = {member.name: int(member.value) for member in theirs}
    return [f"{name}.{each.name} is {real.get(each.name)}" for each in ours if real.get(each.name) != each.value]


def _signature(function: Any) -> list[str]:
    """Return the names of the parameters, as the first line of the docstring has them."""
    line = next(line for line in function.__doc__.splitlines() if line.strip())
    inside = line[line.index("(") + 1 : line.rindex(")")]
    return [part.split(":")[0].split("=")[0].split()[-1] for part in inside.split(",") if part.strip()]


_BASES = {"PagelockedHostAllocation": "HostPointer"}  # in pycuda's wrapper, of the classes simulated here
_NAMED = re.compile(r'"(\w+)"|DEF_SIMPLE_(?:METHOD|FUNCTION)(?:_WITH_ARGS)?\((\w+)|DECLARE_EXC\((\w+)')


def pycuda_differences(simulated: ModuleType, source: Path) -> list[str]:
    """Return the names of the simulated `pycuda.driver` that the source of the real one does not define there."""
    wrapper = (source / "src" / "wrapper" / "wrap_cudadrv.cpp").read_text(encoding="utf-8")
    parts = re.split(r"py::(?:class_|enum_)<", wrapper)
    defined: dict[str, set[str]] = {}
    for part in parts[1:]:
        names = _names(part)
        defined[next(iter(re.findall(r'"(\w+)"', part)), "")] = names
    everywhere = _names(wrapper)
    found: list[str] = []
    for name, ours in vars(simulated).items():
        if name.startswith("_") or (name in everywhere and not isinstance(ours, type)):
            continue
        allowed = defined.get(name, set()) | defined.get(_BASES.get(name, ""), set())
        found += [f"{name}: {each}" for each in _public(ours) if each not in allowed]
        if name not in everywhere:
            found.append(name)
    return sorted(found)


def _names(text: str) -> set[str]:
    return {name for groups in _NAMED.findall(text) for name in groups if name}


def _public(kind: Any) -> set[str]:
    """Return the public names of a class or the members of an enumeration, nothing for an exception or a function."""
    if not isinstance(kind, type) or issubclass(kind, BaseException):
        return set()
    if issubclass(kind, IntEnum):
        return set(kind.__members__)
    return {each for base in kind.__mro__[:-1] for each in vars(base) if not each.startswith("_")}
