"""TensorRT's timing cache: one file per TensorRT version and device. Losing it costs build time, never a plan."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from embedge import atomic
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.lock import CancelSignal, hold

__all__ = ["TimingCache"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

_SEAL = hashlib.sha256().digest_size


class TimingCache:
    """Kernel timings on this device, for later builds. The file begins with the SHA-256 of the rest.

    Attributes:
        file: Where the timings are.
    """

    def __init__(self, folder: Path, key: PlanKey) -> None:
        """Name the file in `folder` by the key's TensorRT version and device."""
        facts = msgspec.json.encode((key.tensorrt, key.device), order="sorted")
        self.file = folder / f"{key.tensorrt}-{hashlib.sha256(facts).hexdigest()[:16]}"

    def read(self) -> bytes:
        """Return the kept timings; empty if there are none, or the file is damaged."""
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.warning("%s: not used, so building takes longer: %s", self.file, error)
            return b""
        kept = data[_SEAL:]
        if hashlib.sha256(kept).digest() != data[:_SEAL]:
            log.warning("%s: damaged, so not used: building takes longer", self.file)
            return b""
        return kept

    def merge(self, combine: Callable[[bytes], bytes], cancel: CancelSignal) -> None:
        """Replace the kept timings by `combine(kept)`, under a lock. Only logs a warning if they can't be written.

        Args:
            combine: Returns the new timings, given those kept by now.
            cancel: Stops the wait for the lock.

        Raises:
            Unavailable: The wait was cancelled.
        """
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.file.with_name(f"{self.file.name}.lock").open("a+") as lock, hold(lock, cancel):
                data = combine(self.read())
                atomic.write(self.file, hashlib.sha256(data).digest() + data, mode=0o600)
        except OSError as error:
            log.warning("%s: not written, so the next build takes longer: %s", self.file, error)
