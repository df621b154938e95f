"""The cache of plans: a folder only this user can write, where a plan appears whole or not at all."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from embedge import atomic, cache
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.lock import CancelSignal, hold
from embedge.backends.tensorrt.plans.record import PLAN, Damaged, Plan, PlanRecord, write
from embedge.errors import BackendError

__all__ = ["PlanStore"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

# The cache cannot be written: plans built now live as long as this process.
_UNWRITABLE = frozenset(
    getattr(errno, name)
    for name in "EACCES EDQUOT EFBIG EIO ENOLCK ENOSPC ENOTDIR ENOTSUP EPERM EROFS EEXIST ELOOP".split()
)
_PRIVATE = stat.S_IRWXU
_DRAFTS = "drafts"


class PlanStore:
    """Plans by key, in a folder of the user's cache directory.

    A plan is machine code, so a plan that another user could have written is never loaded. If the cache can't be
    written, plans go to a private folder that is removed when this process ends.

    Attributes:
        root: The cache.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Use `root`, by default `plans` in the user's cache directory. Creates nothing yet."""
        self.root = cache.directory() / "plans" if root is None else root
        self._private: Path | None = None

    @property
    def timing(self) -> Path:
        """The folder of TensorRT's timing caches."""
        return self.root / "timing"

    def find(self, key: PlanKey) -> Plan | None:
        """Return the plan for a key, or its refusal; None if there isn't one. Logs a warning for a damaged plan.

        Raises:
            BackendError: Others can write to the cache.
        """
        for root in self._roots():
            folder = root / key.digest()
            try:
                return Plan.load(folder, key)
            except FileNotFoundError:
                if folder.exists():
                    log.warning("%s: not used, and built again: it is incomplete", folder)
            except (Damaged, OSError) as error:
                log.warning("%s: not used, and built again: %s", folder, error)
        return None

    def plans(self) -> Iterator[tuple[Path, PlanRecord | None]]:
        """Yield the folder and record of every plan in the cache; None for a damaged record.

        Raises:
            BackendError: Others can write to the cache.
        """
        self._check()
        for folder in sorted(path for path in self.root.glob("?" * 64) if path.is_dir() and not path.is_symlink()):
            try:
                yield folder, Plan.load(folder).record
            except (Damaged, OSError):
                yield folder, None

    @contextmanager
    def building(self, cancel: CancelSignal) -> Iterator[tuple[Path, ...]]:
        """Wait until no other process builds, and yield folders to write plans in, in order of preference.

        One process builds at a time, whatever it builds: TensorRT chooses kernels by timing them, and a second build
        would distort that. Call `find` again inside: the other process may have built the same plan.

        Args:
            cancel: Stops the wait.

        Raises:
            BackendError: No folder can be written, or others can write to the cache.
            Unavailable: The wait was cancelled.
        """
        with self._spare() as spare, ExitStack() as stack:
            places = spare
            try:
                self._make()
                lock = stack.enter_context((self.root / "build.lock").open("a+"))
                stack.enter_context(hold(lock, cancel))
                places = (stack.enter_context(self._drafts()), *spare)
            except OSError as error:
                self._warn_unwritable(error)
            if not places:
                raise BackendError(f"neither {self.root} nor {tempfile.gettempdir()} can be written; free space in one")
            yield places

    def keep(self, record: PlanRecord, plan: Path | None = None) -> Plan:
        """Keep a plan or a refusal.

        Args:
            record: Of the plan or refusal.
            plan: The plan's file, in one of the folders of `building`; None for a refusal.

        Raises:
            BackendError: The file's hash differs from the record's.
        """
        if plan is not None and atomic.sha256(plan) != record.sha256:
            raise BackendError(f"{plan}: the file changed after it was written; check the disk")
        spared = plan is not None and self._private is not None and plan.is_relative_to(self._private)
        if not spared:
            try:
                self._make()
                return self._put(self.root, record, plan)
            except OSError as error:
                if error.errno not in _UNWRITABLE:
                    raise
                self._warn_unwritable(error)
        return self._put(self._private_root(), record, plan)

    def remove(self, folder: Path) -> int:
        """Remove a plan's folder from the cache, and return the bytes freed."""
        size = sum(path.lstat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
        return size

    def _put(self, root: Path, record: PlanRecord, plan: Path | None) -> Plan:
        """Write the folder durably beside its place, and move it there in one step."""
        (root / _DRAFTS).mkdir(mode=_PRIVATE, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=root / _DRAFTS))
        if plan is not None:
            shutil.move(plan, staged / PLAN)
        try:
            write(staged, record)
            target = root / record.key.digest()
            atomic.move_folder(staged, target)  # a damaged, refused or forced one goes to the drafts
        except OSError:
            if plan is not None:
                shutil.move(staged / PLAN, plan)  # so that the caller can keep it elsewhere
            raise
        with suppress(OSError):  # it is in place; a power failure now costs a rebuild at most
            atomic.sync(root)
        return Plan(target, record)

    def _roots(self) -> Iterator[Path]:
        self._check()
        yield self.root
        if self._private is not None:
            yield self._private

    def _check(self) -> None:
        """Raise BackendError if anyone but this user could have written to the cache."""
        try:
            found = self.root.lstat()
        except OSError:
            return  # without a cache, nothing is loaded from it
        if stat.S_ISLNK(found.st_mode):
            wrong = "is a link; remove it, or set EMBEDGE_CACHE to the directory it points to"
        elif not stat.S_ISDIR(found.st_mode):
            return
        elif found.st_uid != os.geteuid():
            wrong = "belongs to another user; set EMBEDGE_CACHE to your own directory"
        elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            wrong = f"can be written by others; remove what you did not build, then: chmod 700 {self.root}"
        else:
            return
        raise BackendError(f"{self.root}: plans are machine code, and this directory {wrong}")

    def _make(self) -> None:
        self._check()
        self.root.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        self.root.mkdir(mode=_PRIVATE, exist_ok=True)
        self._check()

    def _private_root(self) -> Path:
        """Return the private folder, created when first needed and removed when the process ends."""
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="embedge-plans-"))
            atexit.register(shutil.rmtree, self._private, ignore_errors=True)
        return self._private

    @contextmanager
    def _drafts(self) -> Iterator[Path]:
        """Yield the cache's folder for drafts. Call this with the lock held."""
        drafts = self.root / _DRAFTS
        shutil.rmtree(drafts, ignore_errors=True)  # left by builds that were killed
        drafts.mkdir(mode=_PRIVATE)
        try:
            yield drafts
        finally:
            shutil.rmtree(drafts, ignore_errors=True)

    @contextmanager
    def _spare(self) -> Iterator[tuple[Path, ...]]:
        """Yield a folder for drafts in the private one, or nothing if it can't be created."""
        try:
            spare = Path(tempfile.mkdtemp(dir=self._private_root()))
        except OSError as error:
            log.info("no private folder for plans: %s", error)
            yield ()
            return
        try:
            yield (spare,)
        finally:
            shutil.rmtree(spare, ignore_errors=True)

    def _warn_unwritable(self, error: OSError) -> None:
        log.warning(
            "%s: cannot keep plans there (%s): they are lost when this process ends, and built again by the next; "
            "free space, make it writable, or set EMBEDGE_CACHE to another directory",
            self.root,
            error.strerror or error,
        )
