"""Enumerations, with the members of each major version. Like those of pybind11 they are no integers."""

from __future__ import annotations

from enum import Enum
from typing import Any

__all__ = ["enums"]

_BOTH: dict[str, dict[str, int]] = {
    "ExecutionContextAllocationStrategy": {"STATIC": 0, "ON_PROFILE_CHANGE": 1, "USER_MANAGED": 2},
    "TensorIOMode": {"NONE": 0, "INPUT": 1, "OUTPUT": 2},
    "DataType": {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5, "FP8": 6, "BF16": 7, "INT64": 8},
    "MemoryPoolType": {"WORKSPACE": 0, "TACTIC_DRAM": 4, "TACTIC_SHARED_MEMORY": 5},
    "LayerInformationFormat": {"ONELINE": 0, "JSON": 1},
    "ProfilingVerbosity": {"LAYER_NAMES_ONLY": 0, "NONE": 1, "DETAILED": 2},
    "ErrorCodeTRT": {"SUCCESS": 0, "UNSPECIFIED_ERROR": 1, "INTERNAL_ERROR": 2, "FAILED_ALLOCATION": 5},
    "ErrorCode": {"SUCCESS": 0, "INTERNAL_ERROR": 1, "UNSUPPORTED_NODE": 8},
}
_BY_MAJOR: dict[int, dict[str, dict[str, int]]] = {
    10: {
        "NetworkDefinitionCreationFlag": {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
        "BuilderFlag": {"FP16": 0, "INT8": 1, "REFIT": 4, "TF32": 6, "BF16": 17},
    },
    11: {
        "NetworkDefinitionCreationFlag": {"STRONGLY_TYPED": 0},
        "BuilderFlag": {"REFIT": 4, "TF32": 6},
    },
}


class _Member(Enum):
    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


def enums(major: int) -> dict[str, Any]:
    """Return the enumerations by name. Those before 10 are as 10 here, those after 11 as 11."""
    named = {**_BOTH, **_BY_MAJOR[min(max(major, 10), 11)]}
    return {name: _Member(name, members) for name, members in named.items()}
