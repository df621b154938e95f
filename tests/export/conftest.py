"""Bundles and models that several tests read. None may be changed: copy first."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge_export.build import build
from embedge_export.recipe import Gate, Recipe
from tests.export.models import sentence_transformer


@pytest.fixture(scope="session")
def quick() -> Gate:
    """A gate with default limits over few passages."""
    return Gate(items=40, golden=16)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers directory: mean pooling and Normalize."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    return sentence_transformer(tmp_path_factory.mktemp("plain"), Pooling, lambda _: Normalize())


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory, plain_model: Path, quick: Gate) -> Path:
    """An engine repository with the bundle of `plain_model` in it, as plain/1."""
    out = tmp_path_factory.mktemp("engines")
    build(Recipe(name="plain", source=str(plain_model), gate=quick), out)
    return out


@pytest.fixture(scope="session")
def bundle(engines: Path) -> Path:
    """The bundle of `plain_model`."""
    return engines / "plain" / "1"
