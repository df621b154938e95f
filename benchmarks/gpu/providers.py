"""Check each CUDA library on this machine for the functions that lanes need."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from benchmarks.gpu.records import Check, Device, rounded
from embedge import cuda
from embedge.cuda import CudaError, Driver
from embedge.errors import Unavailable

__all__ = ["check", "device", "drivers"]

_BYTES = 1 << 16
_DRIVER = Path("/proc/driver/nvidia/version")


def drivers() -> tuple[list[Driver], list[str]]:
    """Return the drivers that can run here, and why the others can't."""
    found, missing = [], []
    for name in cuda.names():
        try:
            found.append(cuda.choose(name))
        except Unavailable as error:
            missing.append(error.message)
    return found, missing


def device(driver: Driver) -> Device:
    """Return the GPU's properties."""
    gpu = driver.gpu()
    words = _DRIVER.read_text(encoding="utf-8").splitlines()[0] if _DRIVER.exists() else ""
    return Device(
        name=gpu.name,
        capability=".".join(map(str, gpu.capability)),
        multiprocessors=gpu.multiprocessors,
        memory=rounded(gpu.memory / 2**30),
        cuda=f"{gpu.driver // 1000}.{gpu.driver % 1000 // 10}",
        driver=" ".join(words.split()),
    )


def check(driver: Driver) -> Check:
    """Copy in, on the device and out, plainly and captured; time it, and query the free memory."""
    driver.enter()
    try:
        with ExitStack() as stack:
            said = _trial(driver, stack)
    except CudaError as error:
        said = str(error)
    finally:
        driver.leave()
    return Check(provider=driver.name, version=driver.version(), good=not said, captures=driver.captures, said=said)


def _trial(driver: Driver, stack: ExitStack) -> str:
    """Return the error; an empty string if all went well."""
    stream = stack.enter_context(closing(driver.stream()))
    start, end = (stack.enter_context(closing(driver.event(timing=True))) for _ in range(2))
    source, target = (stack.enter_context(closing(driver.pinned(_BYTES))) for _ in range(2))
    memory = stack.enter_context(closing(driver.memory(_BYTES)))

    def enqueue() -> None:
        driver.copy_in(memory.pointer, source, _BYTES, stream)
        driver.copy_out(target, memory.pointer, _BYTES, stream)

    def copied(seed: int, run: Callable[[], None]) -> bool:
        source.array[:] = np.random.default_rng(seed).integers(0, 256, _BYTES, np.uint8)
        start.record(stream)
        run()
        end.record(stream)
        end.wait()
        return np.array_equal(source.array, target.array)

    if not copied(1, enqueue):
        return "what is copied in and out again is not what it was"
    if end.seconds_since(start) < 0:
        return "time runs backwards between two events"
    if driver.captures:
        recorded = stack.enter_context(closing(driver.capture(stream, enqueue)))
        if not copied(2, lambda: recorded.launch(stream)):
            return "a recorded copy does not copy what is there when it is launched"
    free, total = driver.free_memory()
    return "" if 0 < free <= total else f"{free} of {total} bytes are free"
