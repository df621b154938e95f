"""What the tests of CUDA do again and again."""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing

import numpy as np
import pytest

from embedge import cuda
from embedge.cuda import CudaError, Driver, Stream
from tests.simulated.machine import Machine

__all__ = ["add_one", "broken", "in_thread", "opened", "provider"]


def provider(name: str, device: int = 0) -> Driver:
    """Return a driver of its own, which no other test has."""
    made: Driver = pkgutil.resolve_name(cuda._CLASSES[name])(device)
    return made


def opened(stack: ExitStack, *made: object) -> None:
    """Close these at the end, the last first."""
    for each in made:
        stack.enter_context(closing(each))  # type: ignore[type-var]


def add_one(machine: Machine, stream: Stream, pointer: int, nbytes: int, *, seconds: float = 0.0) -> None:
    """Enqueue a kernel that adds one to each byte."""

    def run() -> None:
        machine.write(pointer, machine.read(pointer, (nbytes,), np.uint8) + np.uint8(1))

    span = [(pointer, nbytes)]
    machine.enqueue(stream.handle, "compute", run, span, span, seconds, "add one")


def broken(machine: Machine, driver: Driver, code: str = "CUDA_ERROR_ILLEGAL_ADDRESS") -> None:
    """Let a kernel break the context."""
    stream, event = driver.stream(), driver.event()
    machine.faults.fail(code=code)
    machine.enqueue(stream.handle, "compute", lambda: None, name="bad")
    event.record(stream)
    with pytest.raises(CudaError):
        event.wait()
    event.close()
    stream.close()


def in_thread(*runs: Callable[[], None]) -> None:
    """Run each in a thread of its own, all at once, and wait; what one raises is raised here."""
    errors: list[BaseException] = []

    def main(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=main, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
