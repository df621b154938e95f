"""The child process that builds, from start to end. Whatever it does and however it ends, the parent survives."""

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
_LINES = 12  # of its output, kept for error messages
_LINE_BYTES = 400


class Process:
    """A running child, in its own process group: Ctrl-C reaches the parent alone, and the parent stops the child."""

    def __init__(self, command: Sequence[str], request: BuildRequest, *, grace: float) -> None:
        """Start the child and send the request.

        Args:
            command: The builder; `--messages FD` is appended.
            request: What to build.
            grace: Seconds between SIGTERM and SIGKILL.
        """
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
        """Yield the child's messages until it ends.

        Raises:
            BackendError: A line is not a message.
        """
        for line in self._messages:
            try:
                yield msgspec.json.decode(line, type=Message)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if not line.endswith(b"\n"):
                    return  # it died while it wrote
                raise BackendError(
                    f"the builder sent a message that this version does not know: {error}: {line!r}"
                ) from error

    def stop(self) -> None:
        """Ask the child to stop, and kill it after the grace period. Safe in any thread; it doesn't wait."""
        if self._killer is None:
            self._signal(signal.SIGTERM)
            # Owned by this object; `close` ends it.
            self._killer = threading.Timer(self._grace, self._signal, (signal.SIGKILL,))
            self._killer.daemon = True
            self._killer.start()

    def close(self) -> int:
        """End the child if it runs.

        Returns:
            Its exit code; the negated signal number if a signal ended it.
        """
        try:
            self._messages.close()
            if self._process.poll() is None and self._killer is None:
                self.stop()
            self._process.wait(self._grace + 1)
        except subprocess.TimeoutExpired:
            pass  # the timer failed, too; the child is killed below
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
        """Wait for a child that sends no more messages, and return its exit code. Stops it if it hangs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace)
        return self.close()

    def last_output(self) -> list[str]:
        """Return the last lines of the child's stdout and stderr."""
        return self._tail.lines()

    @property
    def _stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise RuntimeError("opened without stdin")
        return self._process.stdin

    def _lower_priority(self) -> None:
        pid = self._process.pid
        with suppress(ProcessLookupError):  # it has ended already; the caller sees that it sent nothing
            # Relative: only root may lower a niceness. The kernel caps the sum at 19.
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + _NICER)

    def _send(self, request: BuildRequest) -> None:
        with suppress(BrokenPipeError):  # it has ended already; the caller sees that it sent nothing
            self._stdin.write(msgspec.json.encode(request) + b"\n")
            self._stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class _Tail:
    """Reads the child's output, so that it never blocks on a full pipe, and keeps the last lines."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        if stream is None:
            raise RuntimeError("opened without stdout")
        self._stream = stream
        self._kept: deque[bytes] = deque(maxlen=_LINES)
        # Owned by this object; ends with the child's output.
        self._thread = threading.Thread(target=self._read, name="embedge-builder-output", daemon=True)
        self._thread.start()

    def lines(self) -> list[str]:
        return [line.decode(errors="replace").strip() for line in list(self._kept) if line.strip()]

    def end(self) -> None:
        self._thread.join(1)  # longer only if a process that the child started keeps the output open
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        while line := self._stream.readline(_LINE_BYTES):
            self._kept.append(line)
