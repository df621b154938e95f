"""Which bundle a path means. What is inside one is tested where bundles are made, in tests/export."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge import Bundle, BundleError
from embedge.bundle import find
from tests.tiny import tiny_bundle


def model(root: Path, *versions: str) -> Path:
    for version in versions:
        (root / version).mkdir(parents=True)
        (root / version / "manifest.json").write_text("{}")
    return root


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["1", "2", "10"], "10"),
        (["v9", "v10"], "v10"),
        (["1.2.9", "1.10.0", "1.9.9"], "1.10.0"),
        (["2024-01-02", "2023-12-31"], "2024-01-02"),
        (["only"], "only"),
    ],
)
def test_a_model_directory_means_its_newest_version(tmp_path: Path, versions: list[str], newest: str) -> None:
    assert find(model(tmp_path / "m", *versions)).name == newest


def test_a_bundle_directory_means_itself(tmp_path: Path) -> None:
    bundle = model(tmp_path / "m", "1", "2") / "1"

    assert find(bundle) == bundle


def test_what_is_no_bundle_is_no_version(tmp_path: Path) -> None:
    root = model(tmp_path / "m", "1")
    (root / "2").mkdir()
    (root / "9.txt").write_text("notes")

    assert find(root).name == "1"


@pytest.mark.parametrize("path", ["missing", "empty", "file"])
def test_a_path_without_a_bundle_says_what_to_do(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(BundleError, match="embedge export") as refused:
        Bundle.load(tmp_path / path)
    assert str(tmp_path / path) in str(refused.value)


def test_a_bundle_loads_from_its_model_directory(tmp_path: Path) -> None:
    for version in ("1", "2"):
        tiny_bundle(tmp_path / "tiny" / version, version=version)

    bundle = Bundle.load(tmp_path / "tiny")

    assert bundle.manifest.version == "2"
    assert bundle.graph("encoder").read_bytes()
