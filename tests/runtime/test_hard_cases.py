"""What a hostile caller, a careless operator and a strange disk can do to an embedder."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from embedge import BackendError, BundleError, Embedder, InvalidInput, Reply, Request, RuntimeConfig, cache
from embedge.bundle import sha256
from embedge.bundle.manifest import FILE_NAME, decode, encode
from tests.runtime.played import NAN, Play, played
from tests.tiny import tiny_bundle

LONG = 30.0
QUICK = RuntimeConfig(warm_up_seconds=0)


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=QUICK) as embedder:
        yield embedder


@pytest.mark.parametrize("timeout", [1e10, float("inf"), 400 * 86400])
def test_a_far_deadline_is_none(tiny: Embedder, timeout: float) -> None:
    for _ in range(4):
        assert tiny.embed(["a cat"], timeout=timeout).shape == (1, 16)
    assert tiny.submit(Request(items=["a cat"], deadline=time.monotonic() + timeout)).result(LONG)
    assert tiny.serving


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": float("nan")},
        {"timeout": "5"},
        {"timeout": True},
        {"priority": "high"},
        {"priority": None},
        {"prompt": ["query"]},
        {"tower": 3},
        {"output": ["dense"]},
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_before_anything_is_counted(
    tiny: Embedder, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        tiny.embed(["a cat"], **options)
    assert tiny.stats()["calls"] == 0


def test_a_list_that_its_caller_changes_is_embedded_as_it_was(tiny: Embedder) -> None:
    items = ["a cat"] * 600
    future = tiny.submit(Request(items=items))
    items.clear()
    assert future.result(LONG).vectors.shape == (600, 16)


@pytest.mark.parametrize("item", ["a cat", ""])  # the last word comes from the completer, or from a prepare thread
def test_closing_in_a_replys_own_callback_ends_well(tmp_path: Path, item: str) -> None:
    embedder = Embedder.open(tiny_bundle(tmp_path / "tiny"), config=QUICK)
    closed = threading.Event()

    def close(_: Future[Reply]) -> None:
        embedder.close()
        closed.set()

    embedder.submit(Request(items=[item])).add_done_callback(close)
    assert closed.wait(LONG)
    embedder.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_told_and_does_not_hang(tiny: Embedder) -> None:
    tiny._process = os.getpid() + 1  # as it looks from a child: a real fork with threads is what nobody should do
    with pytest.raises(Exception, match="another process"):
        tiny.embed(["a cat"])


def test_a_lane_whose_numbers_are_all_nan_is_tested_and_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with played(tmp_path, monkeypatch) as (embedder, play):
        told: list[bool] = []
        embedder.watch(told.append)
        _every_run_gives_nan(play)
        with pytest.raises(BackendError):
            embedder.embed(["a cat"])
        play.threads[0].join(LONG)
        assert not embedder.serving
        assert told[-1] is False
        with pytest.raises(Exception, match="given up"):
            embedder.embed(["a cat"])


def test_one_item_with_nan_alone_in_its_batch_leaves_the_lane_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with played(tmp_path, monkeypatch) as (embedder, play):
        with pytest.raises(BackendError, match="no finite vector"):
            embedder.embed([NAN])
        assert embedder.serving
        assert play.opened == 1


@pytest.mark.parametrize("wrong", [8, 99])
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path, wrong: int) -> None:
    path = tiny_bundle(tmp_path / "tiny")
    _rewrite(path, "dim", wrong)
    with pytest.raises(BundleError, match="not what the manifest says"):
        Embedder.open(path, config=QUICK)


def test_a_bundle_that_was_replaced_is_not_mixed_with_the_old_one(tiny: Embedder) -> None:
    graph = tiny.bundle.graph("encoder")
    data = graph.read_bytes()
    graph.unlink()
    graph.write_bytes(data)
    with pytest.raises(BundleError, match="changed on disk"):
        tiny._pool._executors.open(lambda: None)


@pytest.mark.parametrize(("lanes", "threads"), [(0, 1), (-3, 1), (1, 99999)])
def test_a_stored_record_that_is_nonsense_is_measured_again(tmp_path: Path, lanes: int, threads: int) -> None:
    path = tiny_bundle(tmp_path / "tiny")
    config = RuntimeConfig(warm_up_seconds=0.05)
    with Embedder.open(path, config=config) as embedder:
        record = cache.directory() / "measurements" / f"{embedder._setup._keys['text']}.json"
    stored = msgspec.json.decode(record.read_bytes())
    stored["split"] |= {"lanes": lanes, "threads": threads}
    record.write_bytes(msgspec.json.encode(stored))
    with Embedder.open(path, config=config) as embedder:
        assert embedder.embed(["a cat"]).shape == (1, 16)
        assert embedder.split.lanes >= 1


def _every_run_gives_nan(play: Play) -> None:
    run = play.run
    play.run = lambda ids, mask: run(ids, mask) * float("nan")  # type: ignore[method-assign]


def _rewrite(path: Path, field: str, value: int) -> None:
    """Change the output's field in the manifest, and its space's, as a faulty exporter would."""
    manifest = decode((path / FILE_NAME).read_bytes(), where="test")
    [(name, tower)] = manifest.towers.items()
    output = msgspec.structs.replace(tower.outputs["dense"], **{field: value})
    spaces = {key: msgspec.structs.replace(space, dim=value) for key, space in manifest.spaces.items()}
    tower = msgspec.structs.replace(tower, outputs={"dense": output})
    (path / FILE_NAME).write_bytes(encode(msgspec.structs.replace(manifest, towers={name: tower}, spaces=spaces)))
    assert sha256(path / FILE_NAME)
