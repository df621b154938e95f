"""The child that builds, from its start to its end: nothing that it does, and no way it ends, is the parent's end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

import msgspec

from embedge.backends.tensorrt.plans.messages import BuildRequest, Message
from embedge.errors import BackendError

__all__ = ["Process"]

_NICER = 10  # than the thread that starts it, so that it gives way to whatever serves beside it
_LINES = 12  # of what it printed last
_CUT = 400  # bytes of a line


class Process:
    """A running child. It has a process group of its own: Ctrl-C is for the parent, who then tells it to stop.

    command: the builder; its last two arguments are added. grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, command: Sequence[str], request: BuildRequest, *, grace: float) -> None:
        self._grace = grace
        self._killer: threading.Timer | None = None
        reading, writing = os.pipe()
        self._messages = os.fdopen(reading, "rb")
        try:
            self._process = subprocess.Popen(
                [*command, "--messages", str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            self._messages.close()
            raise
        finally:
            os.close(writing)
        self._tail = _Tail(self._process.stdout)
        self._lower_priority()
        self._send(request)

    def messages(self) -> Iterator[Message]:
        """Yield what the child says, until it ends. Raises BackendError for what is no message."""
        for line in self._messages:
            try:
                yield msgspec.json.decode(line, type=Message)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not line.endswith(b"\n"):
                    return  # it died while it wrote
                raise BackendError(f"the builder said what this version does not know: {error}: {line!r}") from error

    def stop(self) -> None:
        """Tell the child to stop, and end it after the grace. Any thread may call this; it does not wait."""
        if self._killer is None:
            self._signal(signal.SIGTERM)
            # Belongs to this object: `close` ends it.
            self._killer = threading.Timer(self._grace, self._signal, (signal.SIGKILL,))
            self._killer.daemon = True
            self._killer.start()

    def close(self) -> int:
        """End the child if it runs, and return its exit code, negative where a signal ended it."""
        try:
            self._messages.close()
            if self._process.poll() is None and self._killer is None:
                self.stop()
            self._process.wait(self._grace + 1)
        except subprocess.TimeoutExpired:
            pass  # not even the timer could: it is killed below
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()
            if self._killer is not None:
                self._killer.cancel()
                self._killer.join()
            with suppress(BrokenPipeError):
                self._stdin.close()
            self._tail.end()
        return self._process.returncode

    def wait(self) -> int:
        """Return the exit code of a child that has nothing more to say; one that hangs at its end is stopped."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace)
        return self.close()

    def last_words(self) -> list[str]:
        """Return the last lines that the child printed, whoever in it did."""
        return self._tail.lines()

    @property
    def _stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise RuntimeError("opened without stdin")
        return self._process.stdin

    def _lower_priority(self) -> None:
        pid = self._process.pid
        with suppress(ProcessLookupError):  # it has ended already; the caller notices that it sent nothing
            # Relative: only root may lower a niceness. The kernel caps the sum at 19.
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + _NICER)

    def _send(self, request: BuildRequest) -> None:
        with suppress(BrokenPipeError):  # it has ended already, which the caller sees by its silence
            self._stdin.write(msgspec.json.encode(request) + b"\n")
            self._stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class _Tail:
    """Reads what the child prints, so that it never waits for a reader, and keeps the last lines."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            raise RuntimeError("opened without stdout")
        self._stream = stream
        self._kept: deque[bytes] = deque(maxlen=_LINES)
        # Belongs to the process that is watched, and ends with its output.
        self._thread = threading.Thread(target=self._read, name="embedge-builder-output", daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        return [line.decode(errors="replace").strip() for line in list(self._kept) if line.strip()]

    def end(self) -> None:
        self._thread.join(1)  # longer only if something that the child started still has its output open
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        while line := self._stream.readline(_CUT):
            self._kept.append(line)
