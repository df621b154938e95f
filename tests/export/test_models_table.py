"""The table of docs/models.md: it is measured over gRPC, it shows every pattern, and it would tell of a miss."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.export.models_table import PAGE, Row, measured
from tests.export.stand_ins import PATTERNS, STAND_INS


def test_the_page_shows_every_stand_in_and_every_pattern() -> None:
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| P\d+(, P\d+)* \| `", line)]
    known = tuple(f"| {', '.join(each.patterns)} | `{each.name}` | {each.after} |" for each in STAND_INS)
    assert [line for line in shown if not line.startswith(known)] == []
    assert [start for start in known if not any(line.startswith(start) for line in shown)] == []
    assert {pattern for line in shown for pattern in line[2:].partition(" |")[0].split(", ")} == set(PATTERNS)


def test_a_row_beyond_a_limit_does_not_pass() -> None:
    row = Row(STAND_INS[0], "image", "dense", 16, {"cosine": 0.99999, "max_abs": 1e-6, "equal": 1.0})
    assert row.passed
    for name, value in (("cosine", 0.9998), ("max_abs", 2e-4), ("equal", 0.999), ("cosine", float("nan"))):
        assert not replace(row, figures={**row.figures, name: value}).passed


@pytest.mark.slow
def test_stand_ins_are_served_as_their_originals(tmp_path: Path) -> None:
    rows = list(measured([each for each in STAND_INS if each.name == "hashes"], tmp_path))
    assert [(row.tower, row.output, row.items) for row in rows] == [("image", "code", 16), ("text", "code", 16)]
    assert all(row.passed and row.figures["equal"] == 1 for row in rows)
