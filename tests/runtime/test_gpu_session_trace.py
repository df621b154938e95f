"""A lane on a GPU in a trace: when its stream copied and computed, on the host's clock."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from embedge import trace
from embedge.backends.gpu import timing
from tests.runtime.streams import feeds, lane, same
from tests.simulated.device import Device
from tests.simulated.fixtures import ORDERS, Simulate, simulate

__all__ = ["simulate"]


def events(file: Path) -> list[dict[str, Any]]:
    """Return the spans of the lane's stream in order."""
    written = json.loads(file.read_text())["traceEvents"]
    name = f"{threading.current_thread().name} stream"  # and (2), where spans of two clocks overlap
    rows = [each["tid"] for each in written if str(each["args"].get("name", "")).startswith(name)]
    spans = [event for event in written if event["ph"] == "X" and event["tid"] in rows]
    return sorted(spans, key=lambda event: event["ts"])


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("every", [60.0, 0.0])
def test_copies_and_computation_follow_each_other(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: float, order: str, seed: int
) -> None:
    monkeypatch.setattr(timing, "_ANCHOR_SECONDS", every)
    file = tmp_path / "trace.json"
    with lane(simulate("cuda-python", order=order, seed=seed)) as opened:
        opened.run(feeds(0))  # nothing is recorded yet
        with trace.record(file):
            results = [opened.session.start(feeds(number)) for number in range(2)]
            for number, result in enumerate(results):
                same(result(), feeds(number))
            same(*opened.run(feeds(2)), feeds(2))
        same(*opened.run(feeds(3)), feeds(3))  # and no longer
    spans = events(file)
    if every:  # with one anchor there is one clock
        assert [span["name"] for span in spans] == ["copy in", "compute", "copy out"] * 3
    assert sorted(span["name"] for span in spans) == ["compute"] * 3 + ["copy in"] * 3 + ["copy out"] * 3
    assert {span["args"]["graph"] for span in spans} == {"encoder"}
    assert all(span["dur"] == pytest.approx(1000, abs=1) for span in spans if span["name"] == "compute")


def test_an_integrated_gpu_copies_nothing(simulate: Simulate, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with lane(simulate("pycuda", device=Device(integrated=True))) as opened, trace.record(file):
        opened.run(feeds(0), feeds(1))
    assert [span["name"] for span in events(file)] == ["compute", "compute"]


def test_the_clocks_are_put_on_each_other_where_the_stream_stands_still(simulate: Simulate, tmp_path: Path) -> None:
    machine = simulate("cuda-python")  # late: what nobody waits for does not run
    with lane(machine) as opened:
        first = opened.session.start(feeds(0))
        assert machine.faults.kernels == 0
        with trace.record(tmp_path / "trace.json"):
            second = opened.session.start(feeds(1))
            assert machine.faults.kernels == 1
            same(first(), feeds(0))
            same(second(), feeds(1))
