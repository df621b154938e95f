"""Records kept between starts: they may be lost, never half there, and never stop a start."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
import pytest

from embedge import cache


class Record(msgspec.Struct, frozen=True):
    figures: list[float]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_what_is_saved_is_loaded(home: Path) -> None:
    cache.save("cost", "name", Record([1.0]))
    cache.save("cost", "name", Record([2.0]))

    assert cache.load("cost", "name", Record) == Record([2.0])
    assert files(home) == ["name.json"]


def test_nothing_there_is_nothing_said(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cache.load("cost", "name", Record) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"figures": "x"}', b'{"\xff": 1}', b"{}", b"null"]
)
def test_a_damaged_record_is_told_and_done_without(
    home: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.save("cost", "name", Record([1.0]))
    (home / "cost" / "name.json").write_bytes(content)

    assert cache.load("cost", "name", Record) is None
    assert "not used" in caplog.text
    cache.save("cost", "name", Record([3.0]))
    assert cache.load("cost", "name", Record) == Record([3.0])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_directory_is_told_and_done_without(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir()
    home.chmod(0o500)

    cache.save("cost", "name", Record([1.0]))

    assert "cannot be written" in caplog.text
    assert cache.load("cost", "name", Record) is None


def test_a_directory_that_cannot_be_is_told_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "file" / "cache"))

    cache.save("cost", "name", Record([1.0]))

    assert "cannot be written" in caplog.text
    assert cache.load("cost", "name", Record) is None


def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.save("cost", "name", Record([1.0]))

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        cache.save("cost", "name", Record([2.0]))

    assert "No space left" in caplog.text
    assert cache.load("cost", "name", Record) == Record([1.0])
    assert files(home) == ["name.json"]


def test_a_record_is_the_users_own(home: Path) -> None:
    cache.save("cost", "name", Record([1.0]))

    assert (home / "cost" / "name.json").stat().st_mode & 0o077 == 0
    assert (home / "cost").stat().st_mode & 0o077 == 0


def test_key_depends_on_every_fact_and_on_their_order() -> None:
    keys = {cache.key("a", 1, None), cache.key("a", 2, None), cache.key(1, "a", None), cache.key("a", 1, 4)}

    assert len(keys) == 4
    assert cache.key("a", 1) == cache.key("a", 1)


def test_directory_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("EMBEDGE_CACHE", "/named")
    assert cache.directory() == Path("/named")
    monkeypatch.delenv("EMBEDGE_CACHE")
    assert cache.directory() == Path("/xdg/embedge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somebody")
    assert cache.directory() == Path("/somebody/.cache/embedge")
