"""The contract of a backend.

A backend loads a model's graphs and opens a slot for each lane. The lane owns the slot and its sessions: its own thread
opens, starts and closes them. A lane with several batches in flight owns a second thread, which waits for results and
does nothing else on the device.
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
"""The result of a started run: call it to wait for the outputs and get them by name.

The arrays are copies, not the lane's memory. Called once, by the lane's thread or by the one that waits for results. An
exception means that this run failed.
"""


@dataclass(frozen=True)
class BackendModel:
    """What a backend has to load.

    Attributes:
        bundle: The model's bundle.
        config: The settings.
        graphs: Names of the graphs that lanes will open.
        probes: The model's inputs and their sizes.
        cancel: Stops long work, such as building plans.
    """

    bundle: Bundle
    config: RuntimeConfig
    graphs: tuple[str, ...]
    probes: Probes
    cancel: CancelToken = field(default_factory=CancelToken)


class Session(Protocol):
    """A graph loaded in one lane."""

    def start(self, feeds: Arrays) -> PendingArrays:
        """Begin a run. Any exception means that this run failed.

        Args:
            feeds: Arrays by input, in the graph's dtypes and shapes. They are the caller's again on return.

        Returns:
            The pending outputs.
        """
        ...

    def close(self) -> None:
        """Free the session's resources; it is not used again."""
        ...


class DeviceSlot(Protocol):
    """What a lane owns besides its sessions: nothing on a CPU, its stream on a GPU.

    All methods but `attach` and `detach` are called in the lane's thread.
    """

    def open(self, name: str, path: Path) -> Session:
        """Open a graph.

        Args:
            name: The graph's name in the manifest.
            path: Its ONNX file.

        Raises:
            BundleError: The file can't be loaded.
        """
        ...

    def check(self) -> None:
        """Raise if the device is lost, for example because another lane broke the context they share."""
        ...

    def close(self) -> None:
        """Free the slot's resources, once its sessions are closed."""
        ...

    def attach(self) -> None:
        """Called first by the thread that waits for results."""
        ...

    def detach(self) -> None:
        """Called last by the thread that waits for results."""
        ...


class Backend(Protocol):
    """A way to run graphs on this machine.

    Attributes:
        name: As in the settings.
        shares: Whether lanes of one thread each may run the same session at once, so that weights are held once.
        max_in_flight: Batches a lane may have in flight; with 1, a run is over when `start` returns.
        length_multiple: Batch lengths are rounded up to a multiple of this, as far as they may be padded.
        max_batch_tokens: Most padded tokens in a batch, unless the settings set it.
        cuda_graphs: Batch shapes that a lane replays from CUDA graphs, once a model is loaded; 0 for none.
        hang_seconds: Seconds beyond the prediction until a lane in a batch counts as hung, unless the settings set it.
    """

    name: str
    shares: bool
    max_in_flight: int
    length_multiple: int
    max_batch_tokens: int
    cuda_graphs: int
    hang_seconds: float

    def missing(self) -> str:
        """Return why this backend can't run here and how to get it; an empty string if it can."""
        ...

    def version(self) -> str:
        """Return the versions of the underlying libraries."""
        ...

    def device(self) -> str:
        """Return the name of the CPU or GPU; measurements hold for it alone."""
        ...

    def load(self, model: BackendModel) -> None:
        """Load what all lanes share. If it fails, `auto` tries the next backend.

        Raises:
            BackendError: The backend can't run the model.
            Unavailable: A library or the device can't be used.
        """
        ...

    def candidates(self) -> list[LaneSplit]:
        """Return the splits of the machine into lanes that are worth measuring."""
        ...

    def slot(self, *, threads: int, wake: Callable[[], None]) -> DeviceSlot:
        """Return a slot for a lane. Called in the lane's thread.

        Args:
            threads: Compute threads of the lane.
            wake: Called from any thread when an idle lane has to `check` its slot.
        """
        ...

    def close(self) -> None:
        """Free what all lanes share, once they are closed."""
        ...
