"""Tuning: the choice is a pure function of what was measured, and the file is what the runtime reads."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from embedge import RuntimeConfig, cli
from embedge_bench import tune


def test_smallest_of_the_equally_fast_is_chosen() -> None:
    candidates = [{"token_budget": budget} for budget in (256, 512, 1024)]
    assert tune.choose(candidates, [[90.0], [99.0], [100.0]]) == {"token_budget": 512}
    assert tune.choose(candidates, [[100.0], [50.0], [50.0]]) == {"token_budget": 256}
    assert tune.choose(candidates, [[1.0], [2.0], [3.0]]) == {"token_budget": 1024}


def test_slow_minute_of_the_machine_speaks_against_nobody() -> None:
    candidates = [{"lanes": 1}, {"lanes": 2}]
    assert tune.choose(candidates, [[100.0, 10.0, 100.0], [80.0, 8.0, 80.0]]) == {"lanes": 1}
    assert tune.choose(candidates, [[80.0, 80.0, 80.0], [100.0, 5.0, 100.0]]) == {"lanes": 2}


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (6, [(1, 6), (2, 3), (3, 2), (6, 1)])]
)
def test_slots_use_every_core_once(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(slot["lanes"], slot["threads"]) for slot in tune.slots(cores)] == expected


def test_tune_writes_a_file_that_the_runtime_reads(
    engines: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_TOKEN_BUDGETS", (64, 128))
    monkeypatch.setattr(tune, "_MAX_BATCHES", (4, 8))
    monkeypatch.setattr(tune, "_cores", lambda: 1)
    out = tmp_path / "tuned.toml"
    if not any(command.name == "tune" for command in cli.app.registered_commands):
        cli.app.command("tune")(tune.tune)
    options = ["--workload", str(lines), "--duration", "0.2", "--rounds", "1", "--concurrency", "4"]
    assert cli._run(["tune", str(engines / "tiny"), *options, "--out", str(out)]) == 0
    found = msgspec.toml.decode(out.read_bytes(), type=dict[str, RuntimeConfig])["runtime"]
    assert (found.lanes, found.threads) == (1, 1)
    assert found.token_budget in (64, 128)
    assert found.max_batch in (4, 8)
