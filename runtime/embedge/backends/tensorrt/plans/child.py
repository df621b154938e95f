"""The child's end of a build: it receives the request and the order to stop, and sends messages."""

from __future__ import annotations

import os
import signal
import threading
from typing import BinaryIO

import msgspec

from embedge.backends.tensorrt.plans.messages import BuildRequest, Message
from embedge.errors import InvalidInput

__all__ = ["Parent"]


class Parent:
    """The child's connection to its supervisor.

    Attributes:
        cancelled: Set once the build has to stop.
    """

    def __init__(self, descriptor: int, stdin: BinaryIO) -> None:
        """Handle SIGTERM from now on. Call this in the main thread.

        Args:
            descriptor: Where messages go.
            stdin: Where the request comes from.
        """
        os.set_inheritable(descriptor, False)  # a process that a library starts would keep the supervisor waiting
        self._descriptor = descriptor
        self._stdin = stdin
        self._lock = threading.Lock()  # held by a thread while it writes a line, so that lines do not mix
        self.cancelled = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self.cancelled.set())

    def request(self) -> BuildRequest:
        """Read the request. From now on the end of stdin cancels the build, too.

        Raises:
            InvalidInput: Stdin has no valid request.
        """
        line = self._stdin.readline()
        try:
            request = msgspec.json.decode(line, type=BuildRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"no request on stdin: {error}; use 'embedge build' to build plans") from error
        # Owned by the child process and ends with it. Stdin ends when the supervisor does, however that ends.
        threading.Thread(target=self._watch, name="embedge-parent", daemon=True).start()
        return request

    def send(self, message: Message) -> None:
        """Send a message. Cancels the build if the supervisor is gone. Safe in any thread."""
        data = msgspec.json.encode(message) + b"\n"
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._descriptor, data) :]
        except BrokenPipeError:
            self.cancelled.set()

    def _watch(self) -> None:
        # Not `self._stdin.read`: a thread that holds its lock at exit is fatal to the interpreter.
        while os.read(self._stdin.fileno(), 4096):
            pass
        self.cancelled.set()
