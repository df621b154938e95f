"""The cache of plans: a folder of this user's alone, in which a plan appears whole or not at all."""

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
from embedge.backends.tensorrt.plans.lock import Cancel, held
from embedge.backends.tensorrt.plans.record import PLAN, Damaged, Plan, PlanRecord, write
from embedge.errors import BackendError

__all__ = ["PlanStore"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

# The cache cannot be written: what is built then lives as long as this process.
_UNWRITABLE = frozenset(
    getattr(errno, name)
    for name in "EACCES EDQUOT EFBIG EIO ENOLCK ENOSPC ENOTDIR ENOTSUP EPERM EROFS EEXIST ELOOP".split()
)
_PRIVATE = stat.S_IRWXU
_DRAFTS = "drafts"


class PlanStore:
    """Plans by key, under `root` (by default `plans` in the user's cache directory).

    A plan is machine code: one that another user could have written is never loaded. Where the cache cannot be
    written, plans are kept in a private folder that goes away with this process.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache.directory() / "plans" if root is None else root
        self._private: Path | None = None

    @property
    def timing(self) -> Path:
        """Where TensorRT's timing caches are."""
        return self.root / "timing"

    def find(self, key: PlanKey) -> Plan | None:
        """Return the plan for a key, or its refusal; None where there is none that can be trusted, which is said.

        Raises BackendError if the cache itself is not this user's alone.
        """
        for root in self._roots():
            folder = root / key.digest()
            try:
                return Plan.load(folder, key)
            except FileNotFoundError:
                if folder.exists():
                    log.warning("%s: not used, and built again: it is not whole", folder)
            except (Damaged, OSError) as error:
                log.warning("%s: not used, and built again: %s", folder, error)
        return None

    def plans(self) -> Iterator[tuple[Path, PlanRecord | None]]:
        """Yield every folder of a plan in the cache, and its record; None where it cannot be understood."""
        self._check()
        for folder in sorted(path for path in self.root.glob("?" * 64) if path.is_dir() and not path.is_symlink()):
            try:
                yield folder, Plan.load(folder).record
            except (Damaged, OSError):
                yield folder, None

    @contextmanager
    def building(self, cancel: Cancel) -> Iterator[tuple[Path, ...]]:
        """Wait until nobody else builds, and give folders to write plans in, the one to be tried first in front.

        One process at a time builds, whatever it builds: kernels are chosen by their times, which a build beside it
        would spoil. Look again with `find` then: who was waited for may have built the same. Raises BackendError,
        Unavailable when cancelled.
        """
        with self._spare() as spare, ExitStack() as stack:
            places = spare
            try:
                self._make()
                lock = stack.enter_context((self.root / "build.lock").open("a+"))
                stack.enter_context(held(lock, cancel))
                places = (stack.enter_context(self._drafts()), *spare)
            except OSError as error:
                self._tell(error)
            if not places:
                raise BackendError(f"neither {self.root} nor {tempfile.gettempdir()} can be written: make room in one")
            yield places

    def keep(self, record: PlanRecord, plan: Path | None = None) -> Plan:
        """Put a plan that was written in one of the folders of `building`, or a refusal, in its place.

        Raises BackendError if the file is not what the record says.
        """
        if plan is not None and atomic.sha256(plan) != record.sha256:
            raise BackendError(f"{plan}: what is on the disk is not what was written there; check the disk")
        spared = plan is not None and self._private is not None and plan.is_relative_to(self._private)
        if not spared:
            try:
                self._make()
                return self._put(self.root, record, plan)
            except OSError as error:
                if error.errno not in _UNWRITABLE:
                    raise
                self._tell(error)
        return self._put(self._own(), record, plan)

    def remove(self, folder: Path) -> int:
        """Remove a plan from the cache and return how many bytes that frees."""
        size = sum(path.lstat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
        return size

    def _put(self, root: Path, record: PlanRecord, plan: Path | None) -> Plan:
        """Make the folder beside its place, durable, and move it there in one step."""
        (root / _DRAFTS).mkdir(mode=_PRIVATE, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=root / _DRAFTS))
        if plan is not None:
            shutil.move(plan, staged / PLAN)
        try:
            write(staged, record)
            target = root / record.key.digest()
            atomic.move_folder(staged, target)  # an old one, damaged, refused or forced, goes to the drafts
        except OSError:
            if plan is not None:
                shutil.move(staged / PLAN, plan)  # for who can still keep it elsewhere
            raise
        with suppress(OSError):  # it is in its place; a power cut now may cost a build
            atomic.sync(root)
        return Plan(target, record)

    def _roots(self) -> Iterator[Path]:
        self._check()
        yield self.root
        if self._private is not None:
            yield self._private

    def _check(self) -> None:
        """Raise BackendError unless nobody but this user can have written what is in the cache."""
        try:
            found = self.root.lstat()
        except OSError:
            return  # there is no cache, so nothing is loaded from it
        if stat.S_ISLNK(found.st_mode):
            wrong = "is a link; remove it, or name the directory it leads to in EMBEDGE_CACHE"
        elif not stat.S_ISDIR(found.st_mode):
            return
        elif found.st_uid != os.geteuid():
            wrong = "belongs to another user; name a directory of your own in EMBEDGE_CACHE"
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

    def _own(self) -> Path:
        """Return the private folder, made when first needed and removed when the process ends."""
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="embedge-plans-"))
            atexit.register(shutil.rmtree, self._private, ignore_errors=True)
        return self._private

    @contextmanager
    def _drafts(self) -> Iterator[Path]:
        """Give the folder for drafts in the cache, to who holds the lock."""
        drafts = self.root / _DRAFTS
        shutil.rmtree(drafts, ignore_errors=True)  # of builds that were killed
        drafts.mkdir(mode=_PRIVATE)
        try:
            yield drafts
        finally:
            shutil.rmtree(drafts, ignore_errors=True)

    @contextmanager
    def _spare(self) -> Iterator[tuple[Path, ...]]:
        """Give a folder for drafts in the private one, or none where there can be none."""
        try:
            spare = Path(tempfile.mkdtemp(dir=self._own()))
        except OSError as error:
            log.info("no private folder for plans: %s", error)
            yield ()
            return
        try:
            yield (spare,)
        finally:
            shutil.rmtree(spare, ignore_errors=True)

    def _tell(self, error: OSError) -> None:
        log.warning(
            "%s: plans cannot be kept there (%s): they are kept until this process ends, and built again by the next; "
            "make room or make it writable, or name another directory in EMBEDGE_CACHE",
            self.root,
            error.strerror or error,
        )
