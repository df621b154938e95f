"""Run `embedge bench compare` with the peers beside us, all on this machine and on the same bundle.

    python benchmarks/peers/compare.py BUNDLE [options of `embedge bench compare`]

Peers are installed on first use, started one after the other, measured interleaved with us, and stopped.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import HERE, TextModel


@contextmanager
def peer(script: str, bundle: Path) -> Iterator[tuple[str, int]]:
    """Start a peer on a free port, yield its address and process, and stop it."""
    command = [sys.executable, HERE / script, bundle, "--port", str(free_port())]
    log = Path(HERE.parent.parent / "build" / "peers" / f"{script}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            word, _, address = process.stdout.readline().strip().partition(" ")
            if word != "ready":
                sys.exit(f"{script} did not start; see {log}")
            yield address, process.pid
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def main() -> int:
    """Start the peers and hand over to the benchmark."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    bundle, options = Path(sys.argv[1]), sys.argv[2:]
    model = TextModel.load(bundle).name
    with ExitStack() as stack:
        triton, pid = stack.enter_context(peer("triton.py", bundle))
        infinity, _ = stack.enter_context(peer("infinity.py", bundle))
        targets = [
            f"triton=oip://{triton}/{model}?pid={pid}",
            f"infinity=openai+http://{infinity}/v1?model={model}",
            f"embedge=serve:{bundle}",
            f"in process=inproc:{bundle}",
            f"limit=ort:{bundle}?batch=8&sort=1",
        ]
        command = [sys.executable, "-m", "embedge.cli", "bench", "compare", *targets, f"--reference={bundle}", *options]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
