"""Files and folders that appear whole or not at all, whatever fails while they are written."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge import atomic


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Stop every file from growing past `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("old", [None, b"the old content"])
@pytest.mark.parametrize("new", [b"", b"new", b"x" * 3_000_000])
def test_a_write_replaces_the_content_and_leaves_nothing_else(
    new: bytes, old: bytes | None, durable: bool, tmp_path: Path
) -> None:
    if old is not None:
        (tmp_path / "file").write_bytes(old)

    atomic.write(tmp_path / "file", new, durable=durable)

    assert entries(tmp_path) == {"file": new}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("draft", [None, "file.new"])
def test_a_failure_in_the_middle_keeps_the_old_content(
    error: type[BaseException], draft: str | None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def interrupted() -> None:
        with atomic.replacing(tmp_path / "file", draft=tmp_path / draft if draft else None) as file:
            file.write(b"half")
            file.flush()
            assert (tmp_path / "file").read_bytes() == b"old"
            raise error

    with pytest.raises(error):
        interrupted()

    assert entries(tmp_path) == {"file": b"old"}


def test_a_process_killed_in_the_middle_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    script = (
        "import os, pathlib, signal, sys\n"
        "from embedge import atomic\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "with atomic.replacing(path, draft=path.with_name('draft')) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "file"], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert entries(tmp_path) == {"file": b"old", "draft": b"half"}
    with atomic.replacing(tmp_path / "file", draft=tmp_path / "draft") as file:  # the next run overwrites the draft
        file.write(b"new")
    assert entries(tmp_path) == {"file": b"new"}


def test_a_full_disk_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    with full_disk(1000), pytest.raises(OSError, match="File too large") as caught:
        atomic.write(tmp_path / "file", b"x" * 5000)

    assert caught.value.errno == errno.EFBIG
    assert entries(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails_keeps_the_old_content(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        atomic.write(tmp_path / "file", b"new")

    assert entries(tmp_path) == {"file": b"old"}


def test_content_is_synced_before_it_takes_the_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    atomic.write(tmp_path / "file", b"new")
    atomic.write(tmp_path / "file", b"newer", durable=False)

    assert steps == ["sync file", "replace", "sync directory", "replace"]


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        atomic.write(tmp_path / "missing" / "file", b"new")
    (tmp_path / "plain").touch()
    with pytest.raises(NotADirectoryError):
        atomic.write(tmp_path / "plain" / "file", b"new")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_directory_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            atomic.write(tmp_path / "file", b"new")
    finally:
        tmp_path.chmod(0o700)

    assert entries(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize(
    ("mode", "mask", "expected"), [(0o666, 0o022, 0o644), (0o666, 0o077, 0o600), (0o600, 0, 0o600)]
)
def test_permissions_follow_the_mode_and_the_umask(mode: int, mask: int, expected: int, tmp_path: Path) -> None:
    with umask(mask):
        atomic.write(tmp_path / "file", b"new", mode=mode)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode & ~mask


def test_a_link_is_replaced_and_its_target_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")

    atomic.write(tmp_path / "link", b"new")

    assert not (tmp_path / "link").is_symlink()
    assert entries(tmp_path) == {"link": b"new", "target": b"old"}


@given(data=st.binary(max_size=300), repeat=st.sampled_from([0, 1, 4000, 8000]))
def test_the_hash_of_a_file_is_the_hash_of_its_content(
    data: bytes, repeat: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(data * repeat)

    assert atomic.sha256(path) == hashlib.sha256(data * repeat).hexdigest()


def test_a_folder_is_synced_with_all_that_is_in_it_and_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    files = [tmp_path / "a", tmp_path / "sub" / "b"]
    for file in files:
        file.touch()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))

    atomic.sync_folder(tmp_path)

    assert set(synced) == {path.stat().st_ino for path in (*files, tmp_path / "sub", tmp_path)}
    assert synced[-1] == tmp_path.stat().st_ino


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_another_whole(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    staged, target = tmp_path / "staged", tmp_path / "target"
    for content in (b"first", b"second"):
        staged.mkdir(exist_ok=True)
        (staged / "file").write_bytes(content)

        atomic.move_folder(staged, target)

        assert entries(target) == {"file": content}
    assert entries(staged) == {"file": b"first"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]
