"""Building plans: the supervisor of the child that does it. A crash there, or no memory, is an error here."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from embedge.backends.tensorrt.plans import shipped
from embedge.backends.tensorrt.plans.failures import death, failure
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.messages import BuildJob, BuildRequest, Built, Failed, Message, Refused
from embedge.backends.tensorrt.plans.process import Process
from embedge.backends.tensorrt.plans.record import Plan, PlanRecord
from embedge.backends.tensorrt.plans.signature import Trust
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.errors import BackendError, Unavailable

__all__ = ["Builder", "find"]

# By name: the runtime imports nothing of it, and a device that only loads plans needs none of it.
# Not by -m, which looks for modules in the working directory first, whoever's files are there.
_MAIN = """
import sys
sys.path[:] = filter(None, sys.path)
from embedge_export.tensorrt.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COMMAND = (sys.executable, "-c", _MAIN, "build")
_LASTING = ("parse", "precision")  # kinds of failures that come again as long as the key is the same


def find(store: PlanStore, bundle: Bundle, keys: Mapping[str, PlanKey], config: RuntimeConfig) -> dict[str, Plan]:
    """Return by graph the plans that are there, from the cache, or signed and beside the bundle; refusals, too.

    keys: by graph the plan that is wanted. Raises BackendError, InvalidInput, Unavailable for what is wrong with the
    cache or the keys that are trusted.
    """
    beside = bundle.path / shipped.FOLDER
    trust = Trust(config.trust_plans)  # a key that is not there is told before the day on which it is needed
    found = {}
    for graph, key in keys.items():
        if plan := store.find(key) or (shipped.find(beside, key, trust) if beside.is_dir() else None):
            found[graph] = plan
    return found


class Builder:
    """Builds plans in a child process, and puts them into a store.

    hear: is told everything that the child says. command: starts another child. grace: seconds that it has for its end.
    """

    def __init__(
        self,
        store: PlanStore,
        hear: Callable[[Message], None] = lambda message: None,
        *,
        command: Sequence[str] | None = None,
        grace: float = 10.0,
    ) -> None:
        self._store = store
        self._hear = hear
        self._command = COMMAND if command is None else command
        self._grace = grace
        self._cancelled = threading.Event()
        self._process: Process | None = None

    def cancel(self) -> None:
        """Stop the build, now or as soon as it begins. Any thread or signal handler may call this; it does not wait."""
        self._cancelled.set()
        if (process := self._process) is not None:
            process.stop()

    def build(
        self, bundle: Bundle, keys: Mapping[str, PlanKey], config: RuntimeConfig, *, force: bool = False
    ) -> dict[str, Plan]:
        """Build the plans that are not there, and return all by graph. A refusal is a plan whose record says why.

        What another process builds meanwhile is waited for and taken. force: build what is there or refused, too.
        Raises BackendError when a build fails, by which the plans that were built are kept; Unavailable when cancelled.
        """
        with self._store.building(self._cancelled) as places:
            plans = {} if force else find(self._store, bundle, keys, config)
            if wanted := {graph: key for graph, key in keys.items() if graph not in plans}:
                jobs = {
                    graph: BuildJob(key=key, files=tuple(str(place / key.digest()) for place in places))
                    for graph, key in wanted.items()
                }
                timing = str(self._store.timing)
                plans |= self._run(
                    BuildRequest(bundle=str(bundle.path), jobs=jobs, config=config, timing=timing), bundle
                )
        return {graph: plans[graph] for graph in keys}

    def _run(self, request: BuildRequest, bundle: Bundle) -> dict[str, Plan]:
        model = f"{bundle.manifest.name} {bundle.manifest.version}"
        plans: dict[str, Plan] = {}
        failed: dict[str, Failed] = {}
        now = next(iter(request.jobs))
        with self._started(request) as process:
            for message in process.messages():
                self._hear(message)
                now = message.graph or now
                if isinstance(message, Failed):
                    failed[message.graph] = message
                if (record := _record(request, message, model)) is not None:
                    plans[message.graph] = self._store.keep(record, _file(request, message))
            code = process.wait()
            words = process.last_words()
        if self._cancelled.is_set():
            raise Unavailable("building plans was cancelled; those that were done are kept")
        errors = [failure(each) for graph, each in failed.items() if graph not in plans]
        if silent := [graph for graph in request.jobs if graph not in plans and graph not in failed]:
            errors.append(death(now if now in silent else silent[0], code, words))
        if errors:
            raise BackendError("; ".join(errors))
        return plans

    @contextmanager
    def _started(self, request: BuildRequest) -> Iterator[Process]:
        """Run the child; whatever ends this block ends the child, too."""
        process = self._process = Process(self._command, request, grace=self._grace)
        try:
            if self._cancelled.is_set():  # asked here, after `cancel` can see the child
                process.stop()
            yield process
        finally:
            self._process = None
            process.close()


def _record(request: BuildRequest, message: Message, model: str) -> PlanRecord | None:
    """Return what is to be kept of a message: a plan, or why there will be none; None if it is about neither."""
    if isinstance(message, Built):
        seconds, figures, refused = message.seconds, message.figures, ""
    elif isinstance(message, Refused):
        seconds, figures, refused = message.seconds, message.figures, message.reason or "the gate refused it"
    elif isinstance(message, Failed) and message.kind in _LASTING:
        seconds, figures, refused = 0.0, {}, failure(message).removeprefix(f"graph {message.graph!r}: ")
    else:
        return None
    if message.graph not in request.jobs:
        raise BackendError(f"the builder built a plan that nobody asked for, of graph {message.graph!r}")
    return PlanRecord(
        key=request.jobs[message.graph].key,
        model=model,
        graph=message.graph,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=seconds,
        figures=figures,
        sha256=message.sha256 if isinstance(message, Built) else "",
        nbytes=message.nbytes if isinstance(message, Built) else 0,
        refused=refused,
    )


def _file(request: BuildRequest, message: Message) -> Path | None:
    if not isinstance(message, Built):
        return None
    if message.file not in request.jobs[message.graph].files:
        raise BackendError(f"the builder wrote the plan of graph {message.graph!r} where it was not to: {message.file}")
    return Path(message.file)
