"""How far a build is, and the way to stop it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["OnProgress", "monitor"]

OnProgress = Callable[[str, str, int, int], None]
"""Is told of a phase: its name, that of the phase it is part of or nothing, steps that are done, steps in all."""

_PARTS = 100  # a phase is told of at most so often: some have a step for each kernel that is tried


def monitor(trt: Any, tell: OnProgress, cancelled: threading.Event) -> Any:
    """Return a progress monitor. TensorRT calls it from any of its threads, and stops soon after `cancelled` is set."""
    return _monitor_class(trt)(tell, cancelled)


@functools.cache
def _monitor_class(trt: Any) -> Any:
    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, tell: OnProgress, cancelled: threading.Event) -> None:
            trt.IProgressMonitor.__init__(self)  # the binding asks for exactly this call
            self._tell = tell
            self._cancelled = cancelled
            self._lock = threading.Lock()  # guards the phases, and keeps what is told in order
            self._phases: dict[str, tuple[str, int]] = {}  # those under way: the outer one, and steps

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (parent_phase or "", num_steps)
                self._tell(phase_name, parent_phase or "", 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                parent, steps = self._phases.pop(phase_name, ("", 0))
                if not self._cancelled.is_set():
                    self._tell(phase_name, parent, steps, steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                parent, steps = self._phases.get(phase_name, ("", 0))
                done = step + 1
                if done < steps and done * _PARTS // steps > step * _PARTS // steps:
                    self._tell(phase_name, parent, done, steps)
            return not self._cancelled.is_set()

    return _Monitor
