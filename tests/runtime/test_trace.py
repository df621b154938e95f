"""Spans become a file that Perfetto reads, whatever they are and whoever notes them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge import trace
from embedge.errors import InvalidInput

SPANS = st.lists(
    st.tuples(
        st.sampled_from(["lane-0", "lane-10", "lane-2", "prepare-0", "completer", "caller"]),
        st.sampled_from(["compute", "copy in", "wait"]),
        st.integers(-5, 40),
        st.integers(-2, 12),
    ),
    max_size=40,
)


def load(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def rows(trace_file: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the events of each named row, in the order of the rows."""
    events = trace_file["traceEvents"]
    names = {each["tid"]: each["args"]["name"] for each in events if each["name"] == "thread_name"}
    places = {each["tid"]: each["args"]["sort_index"] for each in events if each["name"] == "thread_sort_index"}
    found: dict[str, list[dict[str, Any]]] = {names[tid]: [] for tid in sorted(names, key=places.__getitem__)}
    for each in events:
        if each["ph"] == "X":
            found[names[each["tid"]]].append(each)
    return found


def nanoseconds(event: dict[str, Any]) -> tuple[int, int]:
    start = round(event["ts"] * 1000)
    return start, start + round(event["dur"] * 1000)


@given(spans=SPANS)
def test_any_spans_become_rows_that_are_ordered_and_nest(spans: list[Any], tmp_path_factory: Any) -> None:
    file = tmp_path_factory.mktemp("trace") / "trace.json"
    recorder = trace.Recorder(file, every=3600)
    now = time.perf_counter()
    for number, (track, name, start, length) in enumerate(spans):
        recorder.add(track, name, now + start * 1e-3, now + (start + length) * 1e-3, {"number": number})
    recorder.close()
    found = rows(load(file))
    assert sum(map(len, found.values())) == len(spans)
    assert all(events for events in found.values())
    for events in found.values():
        times = [nanoseconds(event) for event in events]
        assert all(0 <= start <= end for start, end in times)
        assert all(before[0] <= after[0] for before, after in pairwise(times))
        open_ends: list[int] = []
        for start, end in times:
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1], "two spans of a row overlap"
            open_ends.append(end)


def test_tracks_are_in_the_order_of_the_work_and_lanes_by_number(tmp_path: Path) -> None:
    with trace.record(tmp_path / "trace.json"):
        now = time.perf_counter()
        for track in ("completer", "minilm-10", "minilm-2", "minilm-2 stream", "prepare-1"):
            trace.span(track, "work", now, now + 1)
    found = list(rows(load(tmp_path / "trace.json")))
    assert found == ["prepare-1", "minilm-2", "minilm-2 stream", "minilm-10", "completer"]


def test_times_are_microseconds_and_facts_stay_with_their_span(tmp_path: Path) -> None:
    with trace.record(tmp_path / "trace.json"):
        now = time.perf_counter()
        trace.span("lane-0", "compute", now + 0.5, now + 0.75, rows=3, tower="text", where=Path("a"))
    (event,) = rows(load(tmp_path / "trace.json"))["lane-0"]
    assert event["dur"] == pytest.approx(250_000)
    assert event["ts"] >= 500_000
    assert event["args"] == {"rows": 3, "tower": "text", "where": "a"}


def test_nothing_is_kept_while_nothing_records(tmp_path: Path) -> None:
    trace.span("lane-0", "before", 0, 1)
    assert not trace.recording()
    with trace.record(None):
        assert not trace.recording()
    with trace.record(tmp_path / "trace.json"):
        assert trace.recording()
    assert rows(load(tmp_path / "trace.json")) == {}


def test_only_the_newest_are_kept_and_the_file_says_how_many_are_not(tmp_path: Path) -> None:
    recorder = trace.Recorder(tmp_path / "trace.json", most=10, every=3600)
    for number in range(25):
        recorder.add("lane-0", "work", 0, 0, {"number": number})
    recorder.close()
    found = load(tmp_path / "trace.json")
    assert {event["args"]["number"] for event in rows(found)["lane-0"]} == set(range(15, 25))
    assert found["otherData"]["dropped"] == 15


def test_spans_of_many_threads_are_all_there(tmp_path: Path) -> None:
    recorder = trace.Recorder(tmp_path / "trace.json", every=0.001)  # writes while they come in

    def work(number: int) -> None:
        for _ in range(500):
            now = time.perf_counter()
            recorder.add(f"lane-{number}", "work", now, now, {})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert [len(events) for events in rows(load(tmp_path / "trace.json")).values()] == [500] * 4


def test_a_file_is_there_and_whole_before_the_end(tmp_path: Path) -> None:
    """So is that of a process that is killed."""
    file = tmp_path / "trace.json"
    recorder = trace.Recorder(file, every=3600)
    assert rows(load(file)) == {}
    recorder.add("lane-0", "work", 0, 0, {})
    recorder.write()
    assert list(rows(load(file))) == ["lane-0"]
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
    recorder.close()


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere.*No such file"), trace.record(tmp_path / "nowhere" / "trace.json"):
        pass
    assert not trace.recording()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(path := tmp_path / "trace.json")
    before = path.lstat()
    with pytest.raises(InvalidInput, match="no regular file"), trace.record(path):
        pass
    assert path.lstat() == before
    with pytest.raises(InvalidInput, match="no regular file"), trace.record(Path("/")):
        pass


def test_a_link_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("real.json")
    with trace.record(link):
        pass
    assert link.is_symlink()
    assert load(tmp_path / "real.json")


def test_a_place_that_goes_away_later_is_told_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with trace.record(folder / "trace.json"):
        (folder / "trace.json").unlink()
        folder.rmdir()
    assert "the trace was not written" in caplog.text


def test_there_is_one_trace_at_a_time(tmp_path: Path) -> None:
    with trace.record(tmp_path / "a.json"):
        with pytest.raises(InvalidInput, match="already"), trace.record(tmp_path / "b.json"):
            pass
        assert trace.recording()


def test_what_fails_is_seen_too(tmp_path: Path) -> None:
    with trace.record(tmp_path / "trace.json"), pytest.raises(ArithmeticError), trace.during("divide", rows=1):
        raise ArithmeticError
    (event,) = rows(load(tmp_path / "trace.json"))["MainThread"]
    assert (event["name"], event["args"]) == ("divide", {"rows": 1})


def test_the_track_of_a_thread_is_its_name(tmp_path: Path) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(trace.thread()), name="embedge-prepare-1")
    thread.start()
    thread.join()
    assert found == ["prepare-1"]
