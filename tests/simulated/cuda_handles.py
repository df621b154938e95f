"""Handles of the simulated `cuda.bindings.driver`: integers that know what they are."""

from __future__ import annotations

from typing import Any

__all__ = [
    "HANDLES",
    "CUcontext",
    "CUdevice",
    "CUdeviceptr",
    "CUevent",
    "CUgraph",
    "CUgraphExec",
    "CUstream",
    "CUuuid",
    "number",
]


class Handle:
    """What all handles have in common: made from an integer, equal by it, and usable where one is asked for."""

    def __init__(self, value: Any = 0) -> None:
        self._value = int(value or 0)

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._value == int(other)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value:#x}>"


class CUdevice(Handle):
    pass


class CUdeviceptr(Handle):
    pass


class CUcontext(Handle):
    pass


class CUstream(Handle):
    pass


class CUevent(Handle):
    pass


class CUgraph(Handle):
    pass


class CUgraphExec(Handle):
    pass


class CUuuid:
    def __init__(self, value: bytes = bytes(16)) -> None:
        self.bytes = value


HANDLES = (CUdevice, CUdeviceptr, CUcontext, CUstream, CUevent, CUgraph, CUgraphExec, CUuuid)


def number(handle: Any, kind: type[Handle]) -> int:
    """Return a handle's integer; like the real one, take integers and None, and no handle of another kind."""
    if isinstance(handle, Handle) and type(handle) is not kind:
        raise TypeError(f"argument 'handle' is not instance of type {kind}, found instead {type(handle)}")
    return int(handle or 0)
