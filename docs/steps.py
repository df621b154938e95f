"""What the demos share: the steps that run `embedge` commands, and the console."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from embedge import EmbedgeError

__all__ = ["ENGINES", "DemoError", "console", "ended", "serving", "step"]

ENGINES = Path(__file__).resolve().parents[1] / "engines"
_EMBEDGE = (sys.executable, "-m", "embedge.cli")
_STOP_SECONDS = 30

console = Console()


class DemoError(Exception):
    """A step did not work; the message says which and why."""


def ended(demo: Callable[[], None]) -> int:
    """Run a demo; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the server is stopped then, too
    try:
        demo()
    except (DemoError, EmbedgeError) as error:
        console.print(f"[red]the demo stopped:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def step(title: str, *args: str) -> None:
    """Run a command of `embedge` to its end, with its output shown."""
    console.print(f"[bold]{title}[/] embedge {' '.join(os.path.relpath(arg) if '/' in arg else arg for arg in args)}")
    done = subprocess.run([*_EMBEDGE, *args], check=False)
    if done.returncode:
        raise DemoError(f"embedge {args[0]} ended with exit code {done.returncode}; its last lines say why")


@contextmanager
def serving(title: str, model: str) -> Iterator[str]:
    """Start the real server, yield its address once it is warm, and stop it whatever happens."""
    console.print(f"[bold]{title}[/] embedge serve {ENGINES.name}/ --model {model}")
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [*_EMBEDGE, "serve", str(ENGINES), "--model", model, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield _address(server, log.fileno())
            server.terminate()
            if server.wait(_STOP_SECONDS):
                raise DemoError(f"the server ended with exit code {server.returncode}:\n{_tail(log.fileno())}")
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"the server did not end within {_STOP_SECONDS} s") from error
        finally:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[str], log: int) -> str:
    """Return the address that the server prints when it is ready; its output ends early if it fails."""
    if server.stdout is not None:
        for line in server.stdout:
            if line.startswith("ready "):
                return line.split()[1]
    raise DemoError(f"the server ended before it was ready:\n{_tail(log)}")


def _tail(log: int) -> str:
    return os.pread(log, 1 << 20, 0).decode(errors="replace")[-2000:]
