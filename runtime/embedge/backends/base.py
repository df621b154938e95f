"""The whole contract of a backend, on one screen.

A backend makes a model's graphs ready, and opens a slot for each lane. The lane owns the slot and the sessions opened
in it: its own thread opens, starts and closes them. A lane that has several batches in flight owns a second thread,
which waits for results and does nothing else on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedge.backends.cores import LaneSplit
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.cancel import CancelToken
from embedge.config import RuntimeConfig

__all__ = ["Arrays", "Backend", "BackendModel", "DeviceSlot", "PendingArrays", "Session"]

Arrays = Mapping[str, NDArray[np.generic]]

PendingArrays = Callable[[], Arrays]
"""What a started run will give: all outputs by name, in arrays of their own, nothing of the lane's memory.

Waits for them where they are not there yet. Called once, by the lane's thread or by the one that waits for it. An
exception means that this run failed.
"""


@dataclass(frozen=True)
class BackendModel:
    """What a backend is to make ready. graphs: names of those that will be opened. cancel: ends what takes minutes."""

    bundle: Bundle
    config: RuntimeConfig
    graphs: tuple[str, ...]
    probes: Probes
    cancel: CancelToken = field(default_factory=CancelToken)


class Session(Protocol):
    """A graph made ready to run in one lane."""

    def start(self, feeds: Arrays) -> PendingArrays:
        """Begin a run with the inputs by name, which are the caller's again when this returns.

        Any exception means that this run failed.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; it is not used again."""
        ...


class DeviceSlot(Protocol):
    """What a lane owns beside its sessions: nothing on a CPU, its stream on a GPU.

    All but `attach` and `detach` is called in the lane's own thread.
    """

    def open(self, name: str, path: Path) -> Session:
        """Open a graph of the manifest, an ONNX file. Raises BundleError where it cannot be read."""
        ...

    def check(self) -> None:
        """Raise if what is under the slot is lost, as where another lane broke the context that they share."""
        ...

    def close(self) -> None:
        """Free what the slot holds, once its sessions are closed."""
        ...

    def attach(self) -> None:
        """Called first by the thread that waits for results."""
        ...

    def detach(self) -> None:
        """Called last by the thread that waits for results."""
        ...


class Backend(Protocol):
    """A way to run graphs on this machine.

    shares: whether lanes of one thread each may run the same session at the same time, so that weights are held once.
    max_in_flight: batches that a lane may have in flight; with 1, a run is over when `start` returns.
    length_multiple: lengths of batches are rounded up to a multiple of this, as far as they may be padded.
    max_batch_tokens: most padded tokens in a batch where the settings name no number.
    cuda_graphs: shapes of batches that a lane replays from captured graphs, once a model is loaded; 0: none.
    hang_seconds: seconds beyond what was predicted after which a lane in a batch counts as hung, where they name none.
    """

    name: str
    shares: bool
    max_in_flight: int
    length_multiple: int
    max_batch_tokens: int
    cuda_graphs: int
    hang_seconds: float

    def missing(self) -> str:
        """Return why this backend cannot run here and how to get it; empty when it can."""
        ...

    def version(self) -> str:
        """Return the versions of the libraries underneath."""
        ...

    def device(self) -> str:
        """Return the name of what it computes on: what is measured holds for it."""
        ...

    def load(self, model: BackendModel) -> None:
        """Make ready what all lanes share. Raises BackendError or Unavailable with the reason; `auto` then goes on."""
        ...

    def candidates(self) -> list[LaneSplit]:
        """Return the ways to cut the machine into lanes that are worth measuring."""
        ...

    def slot(self, *, threads: int, wake: Callable[[], None]) -> DeviceSlot:
        """Return a slot for a lane with so many compute threads. Called in the lane's thread.

        wake: called from any thread where an idle lane must look at its slot (`check`).
        """
        ...

    def close(self) -> None:
        """Free what all lanes shared, once they are closed."""
        ...
