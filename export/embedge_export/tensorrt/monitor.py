"""A build's progress, and how to stop it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["OnProgress", "monitor"]

OnProgress = Callable[[str, str, int, int], None]
"""Called with a phase: its name, the name of the phase around it or "", steps done, steps in all."""

_PARTS = 100  # reports per phase at most: some phases have a step for each kernel tried


def monitor(trt: Any, on_progress: OnProgress, cancelled: threading.Event) -> Any:
    """Return a progress monitor for a build.

    Args:
        trt: The module `tensorrt`.
        on_progress: Called from any of TensorRT's threads, one call at a time.
        cancelled: The build stops soon after this is set.
    """
    return _monitor_class(trt)(on_progress, cancelled)


@functools.cache
def _monitor_class(trt: Any) -> Any:
    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, on_progress: OnProgress, cancelled: threading.Event) -> None:
            trt.IProgressMonitor.__init__(self)  # the binding requires exactly this call
            self._on_progress = on_progress
            self._cancelled = cancelled
            self._lock = threading.Lock()  # guards the phases, and keeps reports in order
            self._phases: dict[str, tuple[str, int]] = {}  # running phases: the phase around each, and its steps

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (parent_phase or "", num_steps)
                self._on_progress(phase_name, parent_phase or "", 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                parent, steps = self._phases.pop(phase_name, ("", 0))
                if not self._cancelled.is_set():
                    self._on_progress(phase_name, parent, steps, steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                parent, steps = self._phases.get(phase_name, ("", 0))
                done = step + 1
                if done < steps and done * _PARTS // steps > step * _PARTS // steps:
                    self._on_progress(phase_name, parent, done, steps)
            return not self._cancelled.is_set()

    return _Monitor
