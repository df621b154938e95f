"""What the tests of the GPU's run share."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu import prepare
from benchmarks.gpu.cases import Case
from tests.structure.code import ROOT
from tests.tiny import tiny_bundle

__all__ = ["SITE", "tiny_case"]

SITE = ROOT / "tests" / "simulated" / "site"


def tiny_case(folder: Path) -> Case:
    """Make a model as `prepare` does, of a tiny bundle. It has no products, so that all precisions are exact."""
    case = Case(folder.name, folder)
    tiny_bundle(folder / "float32")
    prepare.lowered(case, "float16")
    prepare.lowered(case, "bfloat16")
    prepare.reference(case)
    return case
