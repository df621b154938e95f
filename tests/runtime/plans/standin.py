"""A builder that builds nothing: a real process with the protocol written by hand, which ends as the test scripts it.

Run as `standin.py SCRIPT --messages FD`. SCRIPT: JSON, by graph the name of what is done for it; by default "build".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

FD = int(sys.argv[-1])
SCRIPT = json.loads(sys.argv[1])


def say(kind: str, graph: str, /, **fields: object) -> None:
    os.write(FD, json.dumps({"type": kind, "graph": graph, **fields}).encode() + b"\n")


def build(graph: str, job: dict, *, claim: bytes | None = None, place: int = 0) -> None:
    say("progress", graph, phase="building", done=1, total=2)
    plan = b"plan of " + graph.encode()
    Path(job["files"][place]).write_bytes(plan)
    digest = hashlib.sha256(claim or plan).hexdigest()
    figures = {"cosine": 0.999}
    say("built", graph, file=job["files"][place], sha256=digest, nbytes=len(plan), seconds=1.5, figures=figures)


def refuse(graph: str, job: dict) -> None:
    say("refused", graph, reason="cosine 0.42 < 0.999 at 1 x 8", seconds=2.0, figures={"cosine": 0.42})


def unparsed(graph: str, job: dict) -> None:
    faults = [{"description": "no such op", "node": "n1", "op": "Odd"}, {"description": "bad axis", "op": "Gather"}]
    say("failed", graph, kind="parse", text="TensorRT cannot parse it", faults=faults)


def no_memory(graph: str, job: dict) -> None:
    say("failed", graph, kind="memory", text="out of GPU memory")


def full(graph: str, job: dict) -> None:
    """Find the disk of the first place full: a file there cannot grow past one byte."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    with contextlib.suppress(OSError):
        Path(job["files"][0]).write_bytes(b"plan")
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    build(graph, job, place=1)


def hang(graph: str, job: dict) -> None:
    """Wait for SIGTERM or the end of stdin, as a build does between two steps."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    Path(job["files"][0]).write_bytes(b"half a pl")
    try:
        say("progress", graph, phase="hanging", done=0, total=0)
        sys.stdin.buffer.read()
    finally:
        say("failed", graph, kind="cancelled", text="cancelled")


def stubborn(graph: str, job: dict) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("progress", graph, phase="hanging", done=0, total=0)
    while True:
        signal.pause()


def noisy(graph: str, job: dict) -> None:
    os.write(1, b'{"type":"built","graph":"lies"}\n')
    os.write(2, b"x" * 300_000)
    os.write(1, b"\xff\xfe no text\n")
    say("log", graph, level="warning", text="a tactic was skipped")
    build(graph, job)


def half(graph: str, job: dict) -> None:
    os.write(FD, b'{"type":"built","graph":"')
    os.kill(os.getpid(), signal.SIGKILL)


def odd(graph: str, job: dict) -> None:
    say("applause", graph)


def stray(graph: str, job: dict) -> None:
    say("built", graph, file="/somewhere/else", sha256="", nbytes=0, seconds=0)


def die(how: str) -> None:
    os.write(2, f"last words before {how}\n".encode())
    if how.isdecimal():
        os._exit(int(how))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), getattr(signal, how))


ACTS = {
    act.__name__: act for act in (build, refuse, unparsed, no_memory, full, hang, stubborn, noisy, half, odd, stray)
}
ACTS["torn"] = lambda graph, job: build(graph, job, claim=b"something longer")


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    for graph, job in request["jobs"].items():
        name = SCRIPT.get(graph, "build")
        if name.startswith("die:"):
            say("progress", graph, phase="building", done=0, total=9)
            die(name[4:])
        ACTS[name](graph, job)


main()
