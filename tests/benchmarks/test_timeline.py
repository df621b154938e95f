"""A trace as a picture: every span is in it, alone or as a share of its column."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from embedge import trace
from embedge.errors import InvalidInput, NotFound
from embedge_bench import spans
from embedge_bench.cli import app
from embedge_bench.report import timeline


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    with trace.record(path):
        now = time.perf_counter()
        for batch in range(4):
            at = now + 0.01 * batch
            trace.span("minilm-0", "start", at, at + 0.003, rows=16)
            trace.span("minilm-0", "pack", at + 0.001, at + 0.002)
            trace.span("minilm-0 stream", "compute", at + 0.003, at + 0.009)
    return path


def test_tracks_are_read_with_their_depth_and_busy_time(file: Path) -> None:
    lane, stream = spans.read(file)
    assert (lane.name, stream.name) == ("minilm-0", "minilm-0 stream")
    assert [(box.name, box.depth) for box in lane.boxes[:2]] == [("start", 0), ("pack", 1)]
    assert spans.busy(lane) == pytest.approx(0.012)
    assert spans.busy(stream) == pytest.approx(0.024)


def test_a_window_cuts_spans(file: Path) -> None:
    (stream,) = spans.window(spans.read(file), 0.004, 0.008)
    assert [(box.start, box.end) for box in stream.boxes] == [(0.004, 0.008)]


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_every_span_of_a_short_trace_is_a_box(file: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"timeline{suffix}"
    done = CliRunner().invoke(app, ["timeline", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    drawn = out.read_text(encoding="utf-8")
    assert drawn.count('class="span mark') == 12
    assert drawn.count("rows: 16") == 4
    assert "minilm-0 stream" in drawn


def test_thousands_of_narrow_spans_become_shares_of_columns() -> None:
    boxes = [spans.Box("compute", n * 1e-3, n * 1e-3 + 0.5e-3, 0, {}) for n in range(20_000)]
    drawn = timeline.picture([spans.Track("stream", boxes)], "many").markup()
    assert 100 < drawn.count('class="share mark') < 1000
    assert "50 %" in drawn


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "no trace"),
        (b'{"traceEvents": []}', "no spans"),
        (b'{"traceEvents": [{"ph": "X", "name": "\xff"}]}', "no trace"),
        (b'{"traceEvents": [{"ph": "X", "ts": 1e308, "dur": 1e308}]}', "too far apart"),
        (b'{"traceEvents": [{"ph": "X", "ts": -1e308}, {"ph": "X", "ts": 1e308}]}', "too far apart"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=told):
        spans.read(path)
    with pytest.raises(NotFound):
        spans.read(tmp_path / "nowhere.json")


def test_a_trace_of_another_tool_is_drawn_as_far_as_it_says_the_same(tmp_path: Path) -> None:
    spanned = [{"ph": "X", "name": "a\x01<b>", "ts": at, "dur": 1, "pid": 1, "tid": at} for at in (1, 2)]
    placed = {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": 1, "args": {"sort_index": "first"}}
    path, out = tmp_path / "a.json", tmp_path / "a.svg"
    path.write_text(json.dumps({"traceEvents": [*spanned, placed]}), encoding="utf-8")
    timeline.write(spans.read(path), out, "a")
    names = [element.text for element in ElementTree.fromstring(out.read_text(encoding="utf-8")).iter()]
    assert "a\N{REPLACEMENT CHARACTER}<b>" in names


def test_an_unknown_suffix_is_refused(file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.svg"):
        timeline.write(spans.read(file), file.with_suffix(".bmp"), "a")
