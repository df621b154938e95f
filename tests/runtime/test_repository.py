"""The engine repository: what is in it is served, and what is wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge import BundleError, NotFound, Repository, RuntimeConfig
from tests.tiny import tiny_bundle, tiny_repository

QUICK = RuntimeConfig(lanes=1, warm_up_seconds=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_repository(tmp_path_factory.mktemp("engines") / "engines", "one", "two")


def test_every_model_is_opened_and_found_by_name(root: Path) -> None:
    repository = Repository.open(root, config=QUICK)

    assert repository.names() == ["one", "two"]
    assert [model.name for model in repository] == ["one", "two"]
    assert repository.get("two").embed(["a cat"]).shape == (1, 16)
    repository.close()
    assert not any(model.serving for model in repository)


def test_an_unknown_model_lists_what_there_is(root: Path) -> None:
    repository = Repository.open(root, config=QUICK)

    with pytest.raises(NotFound, match="'three' is unknown; this server has: one, two"):
        repository.get("three")
    with pytest.raises(NotFound, match="one, two"):
        repository.get("")
    repository.close()


def test_only_the_models_that_are_named_are_opened(root: Path) -> None:
    repository = Repository.open(root, config=QUICK, models=["two"])

    assert repository.names() == ["two"]
    assert repository.get("").name == "two"
    repository.close()
    with pytest.raises(NotFound, match=r"holds no model 'three'; it has: one, two"):
        Repository.open(root, models=["three"])


@pytest.mark.parametrize("inside", ["two", "two/1"])
def test_one_model_or_one_bundle_will_do(root: Path, inside: str) -> None:
    repository = Repository.open(root / inside, config=QUICK)

    assert repository.names() == ["two"]
    repository.close()


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    for version in ("9", "10"):
        tiny_bundle(tmp_path / "tiny" / version, version=version)

    repository = Repository.open(tmp_path, config=QUICK)

    assert repository.get("tiny").version == "10"
    repository.close()


def test_an_empty_or_missing_repository_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no bundles; make one with 'embedge export"):
        Repository.open(tmp_path)
    with pytest.raises(BundleError, match=r"missing: no such directory; .*embedge export"):
        Repository.open(tmp_path / "missing")


def test_one_bad_model_stops_the_start_and_leaves_none_open(tmp_path: Path) -> None:
    root = tiny_repository(tmp_path / "engines", "good", "worse")
    (root / "worse" / "1" / "model.onnx").write_bytes(b"")

    with pytest.raises(BundleError, match="SHA-256"):
        Repository.open(root, config=QUICK)


def test_nothing_is_written_into_a_repository(root: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    for path in sorted(root.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        repository = Repository.open(root, models=["one"])
        repository.get("one").embed(["a dog"])
        repository.close()
    finally:
        for path in root.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)

    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_two_directories_with_one_model_name_are_refused_and_none_stays_open(tmp_path: Path) -> None:
    for directory in ("one", "two"):
        tiny_bundle(tmp_path / directory / "1")
    with pytest.raises(BundleError, match=r"both have the name 'tiny'"):
        Repository.open(tmp_path, config=RuntimeConfig(warm_up_seconds=0))


def test_a_build_that_is_not_finished_is_no_model(tmp_path: Path) -> None:
    tiny_repository(tmp_path)
    tiny_bundle(tmp_path / ".tiny-2.abc")
    tiny_bundle(tmp_path / "tiny" / ".2.abc", version="2")
    repository = Repository.open(tmp_path, config=RuntimeConfig(warm_up_seconds=0))
    assert [(model.name, model.version) for model in repository] == [("tiny", "1")]
    repository.close()
