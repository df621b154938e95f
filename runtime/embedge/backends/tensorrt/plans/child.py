"""The child's end of a build: it hears what is to be built and when to stop, and says how far it is."""

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
    """The supervisor, as the child's main thread sees it. cancelled: set when the build is to stop."""

    def __init__(self, descriptor: int, stdin: BinaryIO) -> None:
        os.set_inheritable(descriptor, False)  # what a library starts must not keep the supervisor waiting
        self._descriptor = descriptor
        self._stdin = stdin
        self._lock = threading.Lock()  # of the child: lines of its threads do not mix
        self.cancelled = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self.cancelled.set())

    def request(self) -> BuildRequest:
        """Return what is to be built. Raises InvalidInput. From now on the end of stdin cancels, too."""
        line = self._stdin.readline()
        try:
            request = msgspec.json.decode(line, type=BuildRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"no request on stdin: {error}; use 'embedge build' to build plans") from error
        # Belongs to the child, and ends with it: stdin ends when the supervisor does, however it ends.
        threading.Thread(target=self._watch, name="embedge-parent", daemon=True).start()
        return request

    def say(self, message: Message) -> None:
        """Send a message. Where nobody hears it any more, the build is cancelled."""
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
