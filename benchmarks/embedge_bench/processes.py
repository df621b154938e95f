"""CPU time and memory of processes, seen from outside."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from embedge.errors import Unavailable
from embedge_bench.results import Usage

__all__ = ["Meter", "Watcher", "listening", "stop_descendants"]


class Meter:
    """CPU seconds since it was made, and the largest resident memory seen at its looks, of some processes together.

    children: count the processes' descendants too. A process that has gone is left out.
    """

    def __init__(self, pids: Iterable[int], *, children: bool) -> None:
        psutil = _psutil()
        self._gone: type[Exception] = psutil.Error
        self._children = children
        self._roots: list[Any] = []
        for pid in pids:
            with suppress(self._gone):
                self._roots.append(psutil.Process(pid))
        self._before = self._cpu()
        self._largest = 0
        self.look()

    def look(self) -> int:
        """Return the resident bytes now."""
        now = 0
        for process in self._processes():
            with suppress(self._gone):
                now += process.memory_info().rss
        self._largest = max(self._largest, now)
        return now

    def usage(self) -> Usage | None:
        """Return the figures; None without a process."""
        if not self._roots:
            return None
        self.look()
        return Usage(cpu_seconds=max(0.0, self._cpu() - self._before), rss=self._largest)

    def _cpu(self) -> float:
        total = 0.0
        for process in self._processes():
            with suppress(self._gone):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _processes(self) -> list[Any]:
        found = list(self._roots)
        for root in self._roots if self._children else ():
            with suppress(self._gone):
                found += root.children(recursive=True)
        return found


class Watcher:
    """Calls `look` now and every `interval` seconds inside its `with` block, from its own thread."""

    def __init__(self, look: Callable[[], None], interval: float) -> None:
        self._look = look
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self._look()
        while not self._stop.wait(self._interval):
            self._look()


def listening(address: str) -> tuple[int, ...]:
    """Return the processes listening at HOST:PORT; none on another machine or without permission."""
    host, _, port = address.rpartition(":")
    if not _is_here(host.strip("[]")):
        return ()
    psutil = _psutil()
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return ()
    found = {
        connection.pid
        for connection in connections
        if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr.port == int(port)
    }
    return tuple(sorted(found))


def stop_descendants(pid: int) -> None:
    """Send SIGTERM to all descendants of a process."""
    psutil = _psutil()
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.terminate()


def _is_here(host: str) -> bool:
    try:
        known = {ipaddress.ip_address(str(info[4][0])) for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    return any(address.is_loopback for address in known)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError as error:
        raise Unavailable("psutil is not installed; pip install 'embedge[bench]'") from error
    return psutil
