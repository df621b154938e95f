"""The child's end of a build: it reads the request, sends messages, and stops when asked or left alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import msgspec
import pytest

from embedge import RuntimeConfig
from embedge.backends.tensorrt.plans.child import Parent
from embedge.backends.tensorrt.plans.messages import BuildJob, BuildRequest, Log, Message, Progress
from embedge.errors import InvalidInput
from tests.runtime.plans.made import key

REQUEST = BuildRequest(bundle="b", jobs={"text": BuildJob(key=key(), files=("a", "b"))}, config=RuntimeConfig(lanes=3))


class Ends:
    """Both ends of what joins a child and its supervisor."""

    def __init__(self) -> None:
        self.stdin_out, self.stdin_in = os.pipe()
        self.messages_out, self.messages_in = os.pipe()
        os.set_inheritable(self.messages_in, True)  # as it is for a child
        self.before = signal.getsignal(signal.SIGTERM)
        self.stdin = os.fdopen(self.stdin_out, "rb")
        self.parent = Parent(self.messages_in, self.stdin)

    def ask(self, line: bytes = msgspec.json.encode(REQUEST)) -> BuildRequest:
        os.write(self.stdin_in, line + b"\n")
        return self.parent.request()

    def leave(self) -> None:
        os.close(self.stdin_in)
        self.stdin_in = -1


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    signal.signal(signal.SIGTERM, made.before)
    if made.stdin_in >= 0:
        made.leave()
    for thread in threading.enumerate():
        if thread.name == "embedge-parent":
            thread.join()
    made.stdin.close()
    for each in (made.messages_in, made.messages_out):
        os.close(each)


def test_the_request_comes_whole(ends: Ends) -> None:
    assert ends.ask() == REQUEST
    assert not ends.parent.cancelled.is_set()


def test_messages_are_lines(ends: Ends) -> None:
    ends.ask()
    sent: list[Message] = [Progress(graph="text", phase="p\nq", done=1, total=2), Log(level="error", text="ä" * 500)]
    for message in sent:
        ends.parent.send(message)

    lines = os.read(ends.messages_out, 1 << 16).splitlines()
    assert [msgspec.json.decode(line, type=Message) for line in lines] == sent


def test_sigterm_cancels(ends: Ends) -> None:
    ends.ask()
    signal.raise_signal(signal.SIGTERM)

    assert ends.parent.cancelled.is_set()


def test_the_end_of_stdin_cancels(ends: Ends) -> None:
    ends.ask()
    ends.leave()

    assert ends.parent.cancelled.wait(60)


def test_a_supervisor_that_is_gone_cancels(ends: Ends) -> None:
    ends.ask()
    os.close(ends.messages_out)
    ends.parent.send(Log(level="error", text="hello?"))

    assert ends.parent.cancelled.is_set()
    ends.messages_out = os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b'{"bundle":"\xff"}', b'{"bundle":1}'])
def test_what_is_no_request_is_refused(ends: Ends, line: bytes) -> None:
    with pytest.raises(InvalidInput, match="use 'embedge build'"):
        ends.ask(line)


def test_what_it_starts_cannot_keep_the_supervisor_waiting(ends: Ends) -> None:
    assert not os.get_inheritable(ends.messages_in)
