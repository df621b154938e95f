"""TensorRT's timing cache: a file for each TensorRT version and device. Losing it costs time, never a plan."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from embedge import atomic
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.lock import Cancel, held

__all__ = ["TimingCache"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

_SEAL = hashlib.sha256().digest_size


class TimingCache:
    """What kernels took here, for the builds that come. The file begins with the SHA-256 of what follows."""

    def __init__(self, folder: Path, key: PlanKey) -> None:
        facts = msgspec.json.encode((key.tensorrt, key.device), order="sorted")
        self.file = folder / f"{key.tensorrt}-{hashlib.sha256(facts).hexdigest()[:16]}"

    def read(self) -> bytes:
        """Return what was kept; nothing where there is nothing that can be trusted."""
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

    def merge(self, combine: Callable[[bytes], bytes], cancel: Cancel) -> None:
        """Keep what `combine` makes of what is kept by now; what cannot be written is said and done without."""
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.file.with_name(f"{self.file.name}.lock").open("a+") as lock, held(lock, cancel):
                data = combine(self.read())
                atomic.write(self.file, hashlib.sha256(data).digest() + data, mode=0o600)
        except OSError as error:
            log.warning("%s: not written, so the next build takes longer: %s", self.file, error)
