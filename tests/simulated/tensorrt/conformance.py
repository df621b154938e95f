"""Compares the simulated module with the real one: every name, member of an enumeration, method and parameter."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from types import ModuleType
from typing import Any

__all__ = ["tensorrt_differences"]


def tensorrt_differences(simulated: ModuleType, real: ModuleType) -> list[str]:
    """Return what the simulated `tensorrt` has that the real one has not: names, methods, members of enumerations."""
    found: list[str] = []
    for name, ours in vars(simulated).items():
        if name.startswith("_"):
            continue
        theirs = getattr(real, name, None)
        if theirs is None:
            found.append(name)
        elif issubclass(ours, Enum):
            real_members = {member: int(value) for member, value in theirs.__members__.items()}
            found += [f"{name}.{each.name}" for each in ours if real_members.get(each.name) != each.value]
        else:
            public = {each for base in ours.__mro__[:-1] for each in vars(base) if not each.startswith("_")}
            found += [f"{name}.{each}" for each in public - set(dir(theirs))]
            found += [f"{name}.{each}()" for each in public & set(dir(theirs)) if _unlike(ours, theirs, each)]
    return sorted(found)


def _unlike(ours: Any, theirs: Any, name: str) -> bool:
    """Return whether a method takes parameters that none of the real one's overloads has."""
    method = vars(ours).get(name)
    text = getattr(theirs, name).__doc__ or ""
    if not inspect.isfunction(method):
        return False
    wanted = list(inspect.signature(method).parameters)[1:]
    lines = [line for line in text.splitlines() if f"{name}(self" in line]
    return all(_parameters(line)[: len(wanted)] != wanted for line in lines)


def _parameters(line: str) -> list[str]:
    inside = re.sub(r"\[[^\]]*\]|<[^>]*>", "", line[line.index("(") + 1 : line.rindex(") ->")])
    return [part.split(":")[0].strip() for part in inside.split(",")][1:]
