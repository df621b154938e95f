"""The interfaces that an application implements, and what TensorRT says through them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from tests.simulated.tensorrt.state import State

__all__ = ["elsewhere", "report", "saying"]


class _Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class _Interface:
    """A class to be derived from, whose own __init__ has to be called."""

    def __init__(self) -> None:
        self._begun = True


def saying(state: State) -> dict[str, Any]:
    """Return the interfaces by name."""

    class ILogger(_Interface):
        Severity = _Severity
        INTERNAL_ERROR, ERROR = _Severity.INTERNAL_ERROR, _Severity.ERROR
        WARNING, INFO, VERBOSE = _Severity.WARNING, _Severity.INFO, _Severity.VERBOSE

    class IErrorRecorder(_Interface):
        pass

    class IProgressMonitor(_Interface):
        pass

    return {each.__name__: each for each in (ILogger, IErrorRecorder, IProgressMonitor)}


def attach(state: State, logger: Any) -> None:
    """Take a logger for a builder or a runtime: one for all of them."""
    if not isinstance(logger, state.module.ILogger) or not getattr(logger, "_begun", False):
        raise TypeError("incompatible constructor arguments: a logger is needed whose ILogger.__init__ was called")
    state.loggers.append(logger)
    if logger is not state.loggers[0]:
        state.machine.violate("TensorRT was given a second logger: it keeps the first, whatever becomes of that")


def report(state: State, recorder: Any, code: str, text: str) -> None:
    """Say an error to the logger and the error recorder, in a thread of TensorRT's own."""
    logger = state.loggers[0]
    elsewhere(lambda: logger.log(logger.ERROR, f"Error Code {code}: {text}"))
    if recorder is not None:
        elsewhere(lambda: recorder.report_error(state.module.ErrorCodeTRT[code], text))


def elsewhere(call: Callable[[], Any]) -> Any:
    """Return what a call gives in another thread: TensorRT calls back from any."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(call()))  # owned by this call
    thread.start()
    thread.join()
    return made[0]
