"""Two threads in every order: the first stops at each of its steps in turn, and the second runs there.

A step is one instruction of Python in the modules under test, so that a missing lock shows without luck and without
sleeps. A second thread that meets a lock which the first one holds lets that one go on, as it would be.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest

__all__ = ["LONG", "Lock", "locks", "race"]

LONG = 30.0  # seconds after which a test that went wrong ends
T = TypeVar("T")

_stuck = threading.local()  # of each thread: what it calls where it has to wait for a lock


def race(
    make: Callable[[], T],
    first: Callable[[T], object],
    second: Callable[[T], object],
    check: Callable[[T], object],
    *modules: ModuleType,
) -> int:
    """Run two actions on a fresh thing once for each step that the first has in the modules; return how many it has.

    check: looks at the thing, once both have ended.
    """
    files = {str(module.__file__) for module in modules}
    step = 0
    while True:
        thing = make()
        stopped = _once(lambda thing=thing: first(thing), lambda thing=thing: second(thing), files, step)  # type: ignore[misc]
        check(thing)
        if not stopped:
            assert step, "the first does nothing in these modules"
            return step
        step += 1


def locks(patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let what these modules make from now on have locks that tell of who waits for them."""
    told = {"Lock": Lock, "RLock": RLock, "Condition": _condition}
    for module in modules:
        patch.setattr(
            module,
            "threading",
            SimpleNamespace(**(vars(threading) | told)),
        )


class Lock:
    """A lock that lets the other thread of a race go on where this one has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking:
            getattr(_stuck, "tell", lambda: None)()
            assert self._lock.acquire(timeout=LONG if timeout < 0 else timeout), "a deadlock"
        return blocking

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """One that its owner may take again."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None
        self._times = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._owner != threading.get_ident() and not super().acquire(blocking, timeout):
            return False
        self._owner = threading.get_ident()
        self._times += 1
        return True

    def release(self) -> None:
        self._times -= 1
        if not self._times:
            self._owner = None
            super().release()


def _condition() -> threading.Condition:
    return threading.Condition(Lock())  # type: ignore[arg-type]


def _once(first: Callable[[], object], second: Callable[[], object], files: set[str], step: int) -> bool:
    """Stop the first before a step, and let the second run; return whether the first came that far."""
    there, on, still = threading.Event(), threading.Event(), threading.Event()
    stopped = False
    count = 0
    errors: list[BaseException] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal stopped, count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if count == step:
                stopped = True
                there.set()
                on.wait(LONG)
            count += 1
        return trace

    def main(run: Callable[[], object], over: threading.Event, traced: Any) -> None:
        _stuck.tell = over.set
        try:
            sys.settrace(traced)
            run()
        except BaseException as error:  # told to the test below
            errors.append(error)
        finally:
            sys.settrace(None)
            over.set()

    threads = [
        threading.Thread(target=main, args=(first, there, trace), daemon=True),  # both are owned by this call
        threading.Thread(target=main, args=(second, still, None), daemon=True),
    ]
    threads[0].start()
    assert there.wait(LONG)
    threads[1].start()
    assert still.wait(LONG)
    on.set()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]
    return stopped
