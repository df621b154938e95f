"""Overlap in modelled time: lanes and batches in flight are worth what they are said to be. Virtual time, so exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from embedge_bench import spans
from tests.runtime.gpu.overlap import IMAGES, TEXTS, Work, overlap, write
from tests.structure.code import ROOT

WORKS = [TEXTS, IMAGES]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_three_lanes_beat_one_synchronous_stream(work: Work) -> None:
    alone, three = (overlap(work, lanes=lanes, depth=depth).seconds for lanes, depth in ((1, 1), (3, 2)))
    assert alone / three >= 1.3
    assert three >= 24 * work.compute, "the GPU computes one thing at a time"


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_a_second_batch_in_flight_hides_the_host_and_a_second_lane_the_copies(work: Work) -> None:
    alone, ahead, lanes = (overlap(work, lanes=lanes, depth=depth).seconds for lanes, depth in ((1, 1), (1, 2), (2, 2)))
    assert alone > ahead > lanes


def test_one_stream_does_all_of_a_batch_one_after_the_other() -> None:
    run = overlap(IMAGES, lanes=1, depth=1, batches=3)
    by_start = sorted(run.spans, key=lambda span: span[2])
    assert all(before[3] <= after[2] + 1e-12 for before, after in pairwise(by_start))
    names = [name for _, name, _, _ in by_start[:7]]
    assert names == ["prepare", "copy", "enqueue", "copy in", "compute", "copy out", "finish"]


def test_the_schedule_can_be_drawn(tmp_path: Path) -> None:
    run = overlap(TEXTS, lanes=2, depth=2, batches=6)
    write(run, tmp_path / "trace.json")
    tracks = {track.name: track for track in spans.read(tmp_path / "trace.json")}
    assert set(tracks) == {f"lane {lane}{part}" for lane in (0, 1) for part in ("", " results", " stream")}
    assert sum(len(track.boxes) for track in tracks.values()) == len(run.spans) == 6 * 7


@pytest.mark.slow
def test_the_page_tells_what_the_model_gives() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for work, name in ((TEXTS, "8 short texts"), (IMAGES, "8 images of 224 x 224")):
        alone = overlap(work, lanes=1, depth=1).seconds
        for depth, told in ((1, "1"), (2, "2 or 3"), (3, "2 or 3")):
            gains = [alone / overlap(work, lanes=lanes, depth=depth).seconds for lanes in (1, 2, 3, 4)]
            assert f"| {name} | {told} | {' | '.join(f'{gain:.2f}' for gain in gains)} |" in page
