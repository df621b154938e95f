"""Builds in a child: whatever it does and however it ends, the parent goes on, says why, and keeps what is good."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedge import Bundle, RuntimeConfig
from embedge.backends.tensorrt.plans.build import Builder
from embedge.backends.tensorrt.plans.messages import Built, Log, Message, Progress
from embedge.backends.tensorrt.plans.progress import LogProgress
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.errors import BackendError, Unavailable
from tests.runtime.plans.made import builder, kept, keys, record

CONFIG = RuntimeConfig()


def leftovers(store: PlanStore) -> list[Path]:
    """Return the files that are neither plans nor their records, in the cache and in private folders."""
    private = store.root.parents[1] / "private"
    found = [*store.root.rglob("*"), *private.rglob("*")]
    return [path for path in found if path.is_file() and path.name not in ("plan", "record.json", "build.lock")]


def test_plans_are_built_kept_and_returned(store: PlanStore, bundle: Bundle) -> None:
    messages: list[Message] = []
    plans = builder(store, messages.append).build(bundle, keys("text", "image"), CONFIG)

    assert {graph: plan.read() for graph, plan in plans.items()} == {
        "text": b"plan of text",
        "image": b"plan of image",
    }
    assert [type(message) for message in messages] == [Progress, Built] * 2
    made = plans["text"].record
    assert (made.model, made.graph, made.seconds, made.figures) == ("tiny 1", "text", 1.5, {"cosine": 0.999})
    found = store.find(keys()["text"])
    assert found is not None
    assert found.record == made
    assert not leftovers(store)


def test_what_is_there_is_not_built_again(store: PlanStore, bundle: Bundle) -> None:
    kept(store, keys()["text"])
    plans = builder(store, text="die:3").build(bundle, keys(), CONFIG)

    assert plans["text"].read() == b"a plan"


def test_force_builds_what_is_there(store: PlanStore, bundle: Bundle) -> None:
    kept(store, keys()["text"])

    assert builder(store).build(bundle, keys(), CONFIG, force=True)["text"].read() == b"plan of text"


def test_a_damaged_plan_is_built_again(store: PlanStore, bundle: Bundle) -> None:
    kept(store, keys()["text"]).file.write_bytes(b"b plan")

    assert builder(store).build(bundle, keys(), CONFIG)["text"].read() == b"plan of text"


def test_a_refusal_is_kept_until_it_is_forced(store: PlanStore, bundle: Bundle) -> None:
    refused = builder(store, text="refuse").build(bundle, keys(), CONFIG)["text"]
    assert "cosine 0.42 < 0.999" in refused.record.refused
    assert refused.record.figures == {"cosine": 0.42}

    again = builder(store).build(bundle, keys(), CONFIG)["text"]
    assert again.record == refused.record
    forced = builder(store).build(bundle, keys(), CONFIG, force=True)["text"]
    assert not forced.record.refused


def test_all_that_the_parser_does_not_take_is_said_and_kept(store: PlanStore, bundle: Bundle) -> None:
    refused = builder(store, text="unparsed").build(bundle, keys(), CONFIG)["text"].record.refused

    assert refused.startswith("TensorRT cannot parse it")
    assert "n1 (Odd): no such op" in refused
    assert "(no name) (Gather): bad axis" in refused


def test_a_failure_is_said_and_others_are_kept(store: PlanStore, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"graph 'image': out of GPU memory; .*small_memory"):
        builder(store, image="no_memory").build(bundle, keys("image", "text"), CONFIG)

    assert store.find(keys()["text"]) is not None
    assert store.find(keys("image")["image"]) is None


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("SIGKILL", "killed, as the system does when memory runs out; .*swap"),
        ("137", "killed, as the system does when memory runs out; .*swap"),
        ("SIGSEGV", "crashed with SIGSEGV; .*small_memory"),
        ("139", "crashed with SIGSEGV; .*small_memory"),
        ("SIGABRT", "crashed with SIGABRT; .*TensorRT"),
        ("SIGTERM", "ended by SIGTERM; start it again"),
        ("3", "ended with exit code 3"),
        ("0", "ended without a plan"),
    ],
)
def test_a_child_that_dies_is_an_error_that_says_how(store: PlanStore, bundle: Bundle, how: str, says: str) -> None:
    with pytest.raises(BackendError, match=f"graph 'text': .*{says}.*last words before {how}"):
        builder(store, text=f"die:{how}").build(bundle, keys("image", "text", "sound"), CONFIG)

    assert store.find(keys("image")["image"]) is not None
    assert not leftovers(store)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("half", "killed"),
        ("odd", "does not know"),
        ("stray", "to a wrong place"),
        ("torn", "check the disk"),
    ],
)
def test_a_child_that_lies_is_not_believed(store: PlanStore, bundle: Bundle, act: str, says: str) -> None:
    with pytest.raises(BackendError, match=says):
        builder(store, text=act).build(bundle, keys(), CONFIG)

    assert store.find(keys()["text"]) is None
    assert not leftovers(store)


def test_a_builder_that_is_not_there_is_an_error(store: PlanStore, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"exit code 1; .*No such file"):
        Builder(store, command=("sh", "-c", "echo No such file; exit 1")).build(bundle, keys(), CONFIG)


def test_noise_of_libraries_is_no_message_and_blocks_nothing(store: PlanStore, bundle: Bundle) -> None:
    messages: list[Message] = []
    plans = builder(store, messages.append, text="noisy").build(bundle, keys(), CONFIG)

    assert plans["text"].read() == b"plan of text"
    assert [message.text for message in messages if isinstance(message, Log)] == ["a tactic was skipped"]


def test_where_the_disk_is_full_the_plan_lives_with_this_process(store: PlanStore, bundle: Bundle) -> None:
    plan = builder(store, text="full").build(bundle, keys(), CONFIG)["text"]

    assert plan.read() == b"plan of text"
    assert not plan.folder.is_relative_to(store.root)
    found = store.find(keys()["text"])
    assert found is not None
    assert PlanStore(store.root).find(keys()["text"]) is None


def test_where_no_cache_can_be_the_plan_lives_with_this_process(
    store: PlanStore, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    store.root.parent.write_text("not a directory")
    plan = builder(store).build(bundle, keys(), CONFIG)["text"]

    assert plan.read() == b"plan of text"
    assert "built again by the next" in caplog.text


def on_progress(act: Callable[[], None]) -> Callable[[Message], None]:
    return lambda message: act() if isinstance(message, Progress) else None


@pytest.mark.parametrize("act", ["hang", "stubborn"])
def test_a_cancelled_build_ends_and_leaves_nothing(store: PlanStore, bundle: Bundle, act: str) -> None:
    made = builder(store, on_progress(lambda: made.cancel()), text=act, grace=60 if act == "hang" else 0.01)

    with pytest.raises(Unavailable, match="cancelled"):
        made.build(bundle, keys(), CONFIG)
    assert store.find(keys()["text"]) is None
    assert not leftovers(store)


def test_a_build_that_is_cancelled_before_it_begins_does_not_begin(store: PlanStore, bundle: Bundle) -> None:
    made = builder(store, text="stubborn", grace=0.01)
    made.cancel()

    with pytest.raises(Unavailable, match="cancelled"):
        made.build(bundle, keys(), CONFIG)


@pytest.mark.parametrize("act", ["hang", "stubborn"])
def test_ctrl_c_ends_the_child(store: PlanStore, bundle: Bundle, act: str) -> None:
    def interrupt() -> None:
        assert children() > before
        signal.raise_signal(signal.SIGINT)

    before = children()
    made = builder(store, on_progress(interrupt), text=act, grace=60 if act == "hang" else 0.01)
    with pytest.raises(KeyboardInterrupt):
        made.build(bundle, keys(), CONFIG)
    assert children() == before, "there is no child left, not even a dead one"
    assert not leftovers(store)


@pytest.mark.parametrize("parent", [0, 5, 15], ids=lambda nicer: f"nicer-{nicer}")
def test_a_build_gives_way_to_whatever_serves(parent: int, store: PlanStore, bundle: Bundle) -> None:
    """Whatever the parent's own niceness: an absolute one would give the child more of the CPU, or be refused."""
    niceness: list[int] = []

    def look() -> None:
        niceness.extend(os.getpriority(os.PRIO_PROCESS, int(pid)) for pid in children() - before)
        made.cancel()

    def build() -> None:
        thread = threading.get_native_id()
        niceness.append(os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, niceness[0] + parent)
        with pytest.raises(Unavailable):
            made.build(bundle, keys(), CONFIG)

    before = children()
    made = builder(store, on_progress(look), text="hang")
    with ThreadPoolExecutor(1) as thread:  # a thread's niceness ends with it
        thread.submit(build).result()
    own, child = niceness
    assert child == min(19, own + parent + 10)


def children() -> set[str]:
    """Return the processes that this thread began, ended ones among them that nobody waited for."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_a_servers_log_has_progress_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    times = iter([0.0, 1.0, 6.0])
    log_progress = LogProgress(5.0, lambda: next(times))
    for done in (1, 2, 3):
        log_progress(Progress(graph="text", phase="timing", done=done, total=4))
    log_progress(Log(level="error", text="bad"))
    log_progress(Built(graph="text", file="", sha256="", nbytes=3 << 20, seconds=61.4))

    assert [line.getMessage() for line in caplog.records] == [
        "graph 'text': building its plan: timing, step 1 of 4",
        "graph 'text': building its plan: timing, step 3 of 4",
        "TensorRT: bad",
        "graph 'text': plan of 3.0 MiB built in 61 s",
    ]


def test_a_refusal_holds_no_plan(store: PlanStore) -> None:
    refused = store.keep(record(keys()["text"], sha256="", nbytes=0, refused="no"))

    with pytest.raises(BackendError, match="cannot be read"):
        refused.read()
