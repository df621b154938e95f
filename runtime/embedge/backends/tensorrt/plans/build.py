"""Build plans in a supervised child process. If it crashes or runs out of memory, that is an error here."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from embedge.backends.tensorrt.plans import shipped
from embedge.backends.tensorrt.plans.failures import describe_death, describe_failure
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

# Imported by name: a device that only loads plans doesn't need embedge_export.
# Not with -m, which searches the working directory first, whoever's files are there.
_MAIN = """
import sys
sys.path[:] = filter(None, sys.path)
from embedge_export.tensorrt.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COMMAND = (sys.executable, "-c", _MAIN, "build")
_PERMANENT = ("parse", "precision")  # failures that recur as long as the key is the same


def find(store: PlanStore, bundle: Bundle, keys: Mapping[str, PlanKey], config: RuntimeConfig) -> dict[str, Plan]:
    """Return the plans available for these keys: cached, or signed and shipped beside the bundle. Includes refusals.

    Args:
        store: The cache.
        bundle: Its directory may have a folder of signed plans.
        keys: Keys of the wanted plans, by graph.
        config: Its `trust_plans` names the trusted public keys.

    Returns:
        Plans by graph; graphs without a plan are missing.

    Raises:
        BackendError: The cache can't be trusted.
        InvalidInput: A trusted key can't be read.
        Unavailable: Checking signatures needs a package that isn't installed.
    """
    beside = bundle.path / shipped.FOLDER
    trust = Trust(config.trust_plans)  # read at once: a missing key is an error before it is needed
    found = {}
    for graph, key in keys.items():
        if plan := store.find(key) or (shipped.find(beside, key, trust) if beside.is_dir() else None):
            found[graph] = plan
    return found


class Builder:
    """Builds plans in a child process, and keeps them in a store."""

    def __init__(
        self,
        store: PlanStore,
        on_message: Callable[[Message], None] = lambda message: None,
        *,
        command: Sequence[str] | None = None,
        grace: float = 10.0,
    ) -> None:
        """Start nothing yet.

        Args:
            store: Where plans are kept.
            on_message: Called with each of the child's messages, in the thread that builds.
            command: Starts the child; by default, embedge_export's builder.
            grace: Seconds between asking the child to stop and killing it.
        """
        self._store = store
        self._on_message = on_message
        self._command = COMMAND if command is None else command
        self._grace = grace
        self._cancelled = threading.Event()
        self._process: Process | None = None

    def cancel(self) -> None:
        """Stop the build, now or as soon as it begins. Safe in any thread or signal handler; it doesn't wait."""
        self._cancelled.set()
        if (process := self._process) is not None:
            process.stop()

    def build(
        self, bundle: Bundle, keys: Mapping[str, PlanKey], config: RuntimeConfig, *, force: bool = False
    ) -> dict[str, Plan]:
        """Build the missing plans, and return all of them. Waits for another process that builds, and takes its plans.

        Args:
            bundle: The model.
            keys: Keys of the wanted plans, by graph.
            config: Settings for the child.
            force: Also rebuild plans that exist or were refused.

        Returns:
            Plans by graph, in the order of `keys`. The record of a refused plan has the reason.

        Raises:
            BackendError: A build failed. Plans built before it are kept.
            Unavailable: The build was cancelled. Plans built before that are kept.
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
                self._on_message(message)
                now = message.graph or now
                if isinstance(message, Failed):
                    failed[message.graph] = message
                if (record := _record(request, message, model)) is not None:
                    plans[message.graph] = self._store.keep(record, _file(request, message))
            code = process.wait()
            output = process.last_output()
        if self._cancelled.is_set():
            raise Unavailable("building plans was cancelled; finished plans are kept")
        errors = [describe_failure(each) for graph, each in failed.items() if graph not in plans]
        if silent := [graph for graph in request.jobs if graph not in plans and graph not in failed]:
            errors.append(describe_death(now if now in silent else silent[0], code, output))
        if errors:
            raise BackendError("; ".join(errors))
        return plans

    @contextmanager
    def _started(self, request: BuildRequest) -> Iterator[Process]:
        """Run the child. It ends with this block, however the block ends."""
        process = self._process = Process(self._command, request, grace=self._grace)
        try:
            if self._cancelled.is_set():  # checked after `cancel` can see the child
                process.stop()
            yield process
        finally:
            self._process = None
            process.close()


def _record(request: BuildRequest, message: Message, model: str) -> PlanRecord | None:
    """Return the record to keep for a message: of a plan or a refusal; None for any other message."""
    if isinstance(message, Built):
        seconds, figures, refused = message.seconds, message.figures, ""
    elif isinstance(message, Refused):
        seconds, figures, refused = message.seconds, message.figures, message.reason or "the gate refused it"
    elif isinstance(message, Failed) and message.kind in _PERMANENT:
        seconds, figures, refused = 0.0, {}, describe_failure(message).removeprefix(f"graph {message.graph!r}: ")
    else:
        return None
    if message.graph not in request.jobs:
        raise BackendError(f"the builder reports graph {message.graph!r}, which was not requested")
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
        raise BackendError(f"the builder wrote the plan of graph {message.graph!r} to a wrong place: {message.file}")
    return Path(message.file)
