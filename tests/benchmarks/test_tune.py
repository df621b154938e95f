"""Tuning: the choice is a pure function of what was measured, and the file is what the runtime reads."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from embedge import RuntimeConfig, cli
from embedge_bench import tune
from embedge_bench.environment import environment
from tests.benchmarks.reports import report


def test_smallest_of_the_equally_fast_is_chosen() -> None:
    candidates = [{"max_batch_tokens": budget} for budget in (256, 512, 1024)]
    assert tune.choose(candidates, [[90.0], [99.0], [100.0]]).taken == {"max_batch_tokens": 512}
    assert tune.choose(candidates, [[100.0], [50.0], [50.0]]).taken == {"max_batch_tokens": 256}
    assert tune.choose(candidates, [[1.0], [2.0], [3.0]]).taken == {"max_batch_tokens": 1024}


def test_slow_minute_of_the_machine_speaks_against_nobody() -> None:
    candidates = [{"lanes": 1}, {"lanes": 2}]
    assert tune.choose(candidates, [[100.0, 10.0, 100.0], [80.0, 8.0, 80.0]]).taken == {"lanes": 1}
    assert tune.choose(candidates, [[80.0, 80.0, 80.0], [100.0, 5.0, 100.0]]).taken == {"lanes": 2}


def test_choice_says_what_was_taken_and_why() -> None:
    budgets = [{"max_batch_tokens": budget} for budget in (256, 512, 1024)]
    alike = tune.choose(budgets, [[90.0], [99.0], [100.0]]).reason
    assert alike.startswith("max_batch_tokens:512, 99.0 embeddings/s; 2 of 3 are within noise (2%) of the fastest")
    assert alike.endswith("(max_batch_tokens:512 max_batch_tokens:1024), so the smallest was taken")
    assert (
        tune.choose(budgets, [[1.0], [2.0], [3.0]]).reason
        == "max_batch_tokens:1024, 3.0 embeddings/s; the fastest of 3"
    )
    assert tune.choose(budgets[:1], [[5.0]]).reason.endswith("there was no other candidate")


def test_expected_time_counts_every_round() -> None:
    assert "about 5 min," in tune.expected(12, 10, 2.5)
    assert "about 10 s," in tune.expected(2, 2, 2.5)


def test_rungs_are_the_lengths_that_texts_have() -> None:
    assert tune.rungs([12, 9, 11, 10, 13], 256) == (9, 10, 11, 12, 13, 256)
    assert tune.rungs([7] * 50 + [0], 256) == (7, 256), "what could not be prepared has no length"
    assert tune.rungs([256] * 9, 256) == tune.rungs([], 256) == (256,)


def test_lengths_are_written_with_what_they_are_and_left_out_where_the_bundles_are_as_good() -> None:
    record = report()
    own, found = {"lengths": None}, {"lengths": (9, 12, 256)}
    taken = tune.render([tune.choose([own, found], [[90.0], [100.0]])], record, "tiny")
    assert "lengths = [9, 12, 256]" in taken
    assert "# lengths: the workload's shortest, quartiles and longest in tokens, and the model's limit" in taken
    left = tune.render([tune.choose([own, found], [[99.0], [100.0]])], record, "tiny")
    assert "# lengths:as exported, 99.0 embeddings/s; 2 of 2 are within noise" in left
    assert "lengths =" not in left


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (6, [(1, 6), (2, 3), (3, 2), (6, 1)])]
)
def test_slots_use_every_core_once(cores: int, expected: list[tuple[int, int]]) -> None:
    assert [(slot["lanes"], slot["threads"]) for slot in tune.slots(cores)] == expected


@pytest.mark.slow
def test_tune_writes_a_file_that_the_runtime_reads(
    engines: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "_TOKEN_BUDGETS", (64, 128))
    monkeypatch.setattr(tune, "_MAX_BATCHES", (4, 8))
    monkeypatch.setattr(tune, "cores", lambda: 1)
    out = tmp_path / "tuned.toml"
    if not any(command.name == "tune" for command in cli.app.registered_commands):
        cli.app.command("tune")(tune.tune)
    options = ["--workload", str(lines), "--duration", "0.2", "--rounds", "1", "--concurrency", "4"]
    assert cli._run(["tune", str(engines / "tiny"), *options, "--out", str(out)]) == 0
    found = msgspec.toml.decode(out.read_bytes(), type=dict[str, RuntimeConfig])["runtime"]
    assert (found.lanes, found.threads) == (1, 1)
    assert found.max_batch_tokens in (64, 128)
    assert found.max_batch_size in (4, 8)
    assert found.lengths is None or found.lengths[-1] == 32, "the last is the model's limit"
    assert re.search(r"# lengths:(as exported|[\d,]+), .* embeddings/s; ", out.read_text("utf-8"))
    said, comment = capsys.readouterr().out, out.read_text("utf-8").partition("[runtime]")[0]
    machine = environment()
    assert said.startswith("this takes about 5 s,")
    assert f"chosen: max_batch_tokens:{found.max_batch_tokens}, " in said
    assert f"{machine.cpu}, {machine.cores} cores" in comment
    assert "workload: 'lines.txt' with 4 clients" in comment
    assert f"# max_batch_size:{found.max_batch_size}, " in comment
    assert re.search(r"on \d{4}-\d\d-\d\d for 'tiny'", comment)
