"""The installed TensorRT: whether it can be used, its one logger, and the errors it reports.

Supported versions: from 10.3, as in JetPack 6, to 11.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embedge.errors import Unavailable

__all__ = ["DTYPES", "MessageLog", "load", "logger", "missing", "out_of_memory", "recorder", "version"]

log = logging.getLogger("embedge.tensorrt")

_MAJORS = (10, 11)
_LEAST = (10, 3)
_MOST_KEPT = 50
_MEMORY = re.compile(
    r"out ?of ?memory|FAILED_ALLOCATION|could not be allocated|insufficient\b.*\bmemory", re.IGNORECASE
)
_JETSON = Path("/etc/nv_tegra_release")
_HINTS = {
    "jetson": (
        "JetPack brings it: sudo apt install python3-libnvinfer, and make the environment with --system-site-packages"
    ),
    "server": "pip install 'embedge[tensorrt]'",
}

DTYPES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
    "uint8": "UINT8",
}
"""TensorRT's `DataType` member for each dtype that a graph's inputs and outputs may have."""


def missing() -> str:
    """Return why TensorRT can't be used here and what to do about it; an empty string if it can."""
    hint = _HINTS["jetson" if _JETSON.exists() else "server"]
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        return f"TensorRT is not installed: {error}; {hint}"
    except (ImportError, OSError, RuntimeError) as error:  # raised by its loader if its shared libraries are missing
        return f"TensorRT cannot be loaded: {error}; {hint}"
    found = str(getattr(tensorrt, "__version__", ""))
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if numbers < _LEAST:
        return f"TensorRT {found or 'of unknown version'} is too old; {'.'.join(map(str, _LEAST))} is needed; {hint}"
    if numbers[0] not in _MAJORS:
        known = " and ".join(map(str, _MAJORS))
        return (
            f"TensorRT {found} is not known to this embedge, which works with {known}; upgrade embedge, or "
            f"pip install 'tensorrt<{_MAJORS[-1] + 1}'"
        )
    return ""


def load() -> Any:
    """Return the module `tensorrt`.

    Raises:
        Unavailable: It can't be used here.
    """
    if reason := missing():
        raise Unavailable(reason)
    import tensorrt

    return tensorrt


def version() -> str:
    """Return TensorRT's full version.

    Raises:
        Unavailable: It can't be used here.
    """
    return str(load().__version__)


def out_of_memory(messages: Iterable[str]) -> bool:
    """Return whether one of TensorRT's messages reports a failed allocation."""
    return any(_MEMORY.search(line) for line in messages)


class MessageLog:
    """Errors from TensorRT's logger or an error recorder. Any of TensorRT's threads may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the lines; whoever adds or takes holds it for a moment
        self._lines: deque[str] = deque(maxlen=_MOST_KEPT)

    def add(self, line: str) -> None:
        """Keep a line, unless it is kept already."""
        with self._lock:
            if line not in self._lines:
                self._lines.append(line)

    def take(self) -> list[str]:
        """Return all lines and forget them."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            return lines

    def __len__(self) -> int:
        return len(self._lines)


@functools.cache
def logger(trt: Any) -> Any:
    """Return this process's logger, whose `messages` hold the latest errors.

    TensorRT keeps the first logger that it is given, and that one has to outlive everything else.
    """
    severities = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.DEBUG,
        trt.ILogger.VERBOSE: logging.DEBUG,
    }

    class _Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding requires exactly this call
            self.messages = MessageLog()

        def log(self, severity: Any, msg: str) -> None:
            level = severities.get(severity, logging.ERROR)
            if level >= logging.ERROR:
                self.messages.add(msg)
            if severity != trt.ILogger.VERBOSE:  # it has a line for every kernel tried
                log.log(level, "%s", msg)

    return _Logger()


def recorder(trt: Any) -> Any:
    """Return a new error recorder, whose `messages` hold the errors.

    It is for a builder or a runtime; an engine and its contexts inherit the runtime's.
    """
    return _recorder_class(trt)()


@functools.cache
def _recorder_class(trt: Any) -> Any:
    class _Recorder(trt.IErrorRecorder):  # type: ignore[misc]
        """Counts the errors; TensorRT reads the list by index."""

        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self.messages = MessageLog()
            self._lock = threading.Lock()  # guards the list; TensorRT calls from its own threads
            self._errors: list[tuple[Any, str]] = []

        def report_error(self, code: Any, desc: str) -> bool:
            self.messages.add(f"{getattr(code, 'name', code)}: {desc}")
            with self._lock:
                self._errors.append((code, desc))
                del self._errors[:-_MOST_KEPT]
            return False

        def num_errors(self) -> int:
            with self._lock:
                return len(self._errors)

        def get_error_code(self, index: int) -> Any:
            with self._lock:
                return self._errors[index][0]

        def get_error_desc(self, index: int) -> str:
            with self._lock:
                return self._errors[index][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            with self._lock:
                self._errors.clear()

    return _Recorder
