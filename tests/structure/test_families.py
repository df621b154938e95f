"""In sources/families, a file without an underscore is named after a `model_type`; shared code has an underscore."""

from __future__ import annotations

from embedge_export.sources.families import FAMILIES
from tests.structure.code import ROOT

FAMILY_FILES = {file.stem for file in (ROOT / "export/embedge_export/sources/families").glob("*.py")}


def test_a_file_without_an_underscore_is_a_model_type() -> None:
    named = {name for name in FAMILY_FILES if not name.startswith("_")}
    assert named == {model_type.replace("-", "_") for model_type in FAMILIES} & named


def test_every_model_type_has_a_file() -> None:
    assert set(FAMILIES.values()) <= FAMILY_FILES
    assert not any(name.startswith("_") for name in FAMILIES.values())
