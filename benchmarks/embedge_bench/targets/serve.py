"""Ours behind a separate server: `serve:PATH?lanes=2`. Options are those of `embedge serve`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading

from embedge.bundle import Bundle
from embedge.errors import Unavailable
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask
from embedge_bench.targets.grpc import Grpc

__all__ = ["Served", "make"]

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class Served(Grpc):
    """A server process with the target's lifetime."""

    kind = "embedge gRPC"

    def __init__(self, spec: Spec, process: subprocess.Popen[str], address: str, model: str, ask: Ask) -> None:
        self._process = process
        super().__init__(spec, address, model, ask)
        self.processes = (process.pid,)

    def close(self) -> None:
        """Close the connection and stop the server."""
        super().close()
        _stop(self._process)


def make(spec: Spec) -> Served:
    """Start a server and connect to it. Raises Unavailable, BundleError."""
    asked = {key: value for key, value in spec.options.items() if key in Ask.__struct_fields__}
    ask = spec.convert(Ask, asked)
    bundle = Bundle.load(spec.rest, verify=False)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in spec.options.items() if key not in asked]
    process, address = _start([str(bundle.path), *flags])
    try:
        return Served(spec, process, address, bundle.manifest.name, ask)
    except BaseException:
        _stop(process)
        raise


def _start(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    """Return a warm server and its address."""
    command = [sys.executable, "-m", "embedge.cli", "serve", "--port=0", *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
        watchdog = threading.Timer(_START_SECONDS, process.kill)  # owned by this call, and cancelled before it ends
        watchdog.start()
        try:
            for line in process.stdout or ():
                word, _, address = line.strip().partition(" ")
                if word == "ready":
                    return process, address
        finally:
            watchdog.cancel()
        _stop(process)
        errors.seek(0)
        last = next((line for line in reversed(errors.read().splitlines()) if line.strip()), "it said nothing")
    raise Unavailable(f"the server did not start: {last.removeprefix('embedge: ')}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
