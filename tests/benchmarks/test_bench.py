"""The order of turns, and whole benchmarks from the command line to the report."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from embedge import cli
from embedge.errors import BackendError
from embedge_bench import results
from embedge_bench.bench import BenchPlan, turns
from embedge_bench.cli import app
from embedge_bench.messages import Give
from embedge_bench.results import BenchReport, Load
from embedge_bench.targets import parse
from embedge_bench.texts import Texts
from embedge_bench.worker_pool import WorkerPool, WorkerProcess

SHORT = ("--duration", "1", "--warm-up", "0.1", "--concurrency", "4")
LOADS = [Load(kind="closed", concurrency=1), Load(kind="open", rate=5.0, arrivals="poisson")]


@pytest.fixture(scope="module", autouse=True)
def _joined() -> None:
    """Join `bench` as the entry point does, whatever the installed metadata says."""
    if not any(group.name == "bench" for group in cli.app.registered_groups):
        cli.app.add_typer(app, name="bench")


def plan(seed: int, rounds: int = 30) -> BenchPlan:
    workloads = [Texts(name, "a test", ("a",), (1,)) for name in ("one", "two")]
    return BenchPlan([parse(f"{name}=inproc:x") for name in "abc"], workloads, LOADS, rounds=rounds, seed=seed)


def bench(*arguments: str | Path, out: Path) -> BenchReport:
    assert cli._run(["bench", *map(str, arguments), "--json", str(out)]) == 0
    return results.read(out)


def test_every_target_has_its_turn_in_every_round_before_the_next_begins() -> None:
    order = list(turns(plan(0)))
    assert len(order) == 3 * 30 * 2 * 2
    for at in range(0, len(order), 3):
        group = order[at : at + 3]
        assert {turn.target for turn in group} == set("abc")
        assert len({(turn.workload, turn.load, turn.number) for turn in group}) == 1


def test_order_within_a_round_is_drawn_by_lot_and_by_seed() -> None:
    first, again, other = ([turn.target for turn in turns(plan(seed))] for seed in (1, 1, 2))
    assert first == again != other
    starters = Counter(first[::3])
    assert min(starters.values()) > 20, "each of three targets begins about 40 of 120 rounds"


def test_run_measures_in_process(
    engines: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = bench("run", f"inproc:{engines}/tiny", "-w", lines, *SHORT, "--rounds", "2", out=tmp_path / "r.json")
    assert [(r.number, r.errors, r.refusals) for r in report.rounds] == [(1, {}, 0), (2, {}, 0)]
    for each in report.rounds:
        assert each.count == len(each.latencies) == len(each.starts) == len(each.sizes) > 10
        assert each.parity is not None
        assert each.parity.min_cosine == pytest.approx(1.0, abs=1e-6)
        assert each.parity.items >= 30
        assert each.tokens is not None
        assert each.tokens.real == sum(each.sizes)
        assert 0 < (each.tokens.efficiency or 0) <= 1
        assert each.client.cpu_seconds > 0
        assert each.client.rss > 1e6
        assert len(each.timeline) > 5
    assert report.workloads["lines.txt"].unit == "tokens"
    assert report.environment.packages["embedge"]
    assert next(iter(report.costs.values())).seconds
    (row,) = report.rows
    assert row.throughput.low is not None
    assert "1.000000" in capsys.readouterr().out


def test_compare_over_grpc_pairs_the_same_requests(engines: Path, address: str, lines: Path, tmp_path: Path) -> None:
    targets = (f"here=inproc:{engines}/tiny", f"wire=grpc://{address}/tiny")
    arguments = (*targets, "-w", lines, *SHORT, "--rounds", "2", "--count", "20", "--rate", "100")
    report = bench("compare", *arguments, out=tmp_path / "r.json")
    assert len(report.rounds) == 2 * 2 * 2
    assert {r.count for r in report.rounds} == {20}
    by_place = {(r.target, r.load, r.number): sorted(r.sizes) for r in report.rounds}
    for (_, load, number), sizes in by_place.items():
        assert sizes == by_place["here", load, number], "both targets got the same texts"
    assert {r.parity.min_cosine > 0.999999 for r in report.rounds if r.parity} == {True}
    assert all(r.server is not None and r.server.rss > 1e6 for r in report.rounds if r.target == "wire")
    assert {(ratio.target, ratio.base) for ratio in report.ratios} == {("wire", "here")}
    opened = [r for r in report.rounds if r.load.kind == "open" and r.target == "wire"]
    here = [r for r in report.rounds if r.load.kind == "open" and r.target == "here"]
    assert [r.starts for r in opened] == [r.starts for r in here], "the same timetable for both"


def test_serve_target_starts_and_ends_its_own_server(engines: Path, lines: Path, tmp_path: Path) -> None:
    report = bench("run", f"serve:{engines}/tiny", "-w", lines, *SHORT, "--rounds", "1", out=tmp_path / "r.json")
    (info,) = report.targets.values()
    assert (info.model, info.kind) == ("tiny", "embedge gRPC")
    assert (info.start_seconds or 0) > 0
    assert report.rounds[0].server is not None


def test_report_survives_writing_and_reading(engines: Path, lines: Path, tmp_path: Path) -> None:
    report = bench(
        "run", f"ort:{engines}/tiny?batch=4&sort=1", "-w", lines, *SHORT, "--rounds", "1", out=tmp_path / "a"
    )
    results.write(report, tmp_path / "b")
    assert results.read(tmp_path / "b") == report
    assert report.rounds[0].embeddings > report.rounds[0].count


def test_plain_runtime_has_one_caller_and_no_ratios_of_latencies_among_many(
    engines: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = (f"here=inproc:{engines}/tiny", f"plain=ort:{engines}/tiny")
    loads = ("--concurrency", "1,4", "--duration", "1", "--count", "5", "--warm-up", "0", "--rounds", "1")
    report = bench("compare", *targets, "-w", lines, *loads, out=tmp_path / "r.json")
    assert {(ratio.load.concurrency, ratio.figure) for ratio in report.ratios} == {
        *((1, figure) for figure in ("throughput", "p50", "p99")),
        (4, "throughput"),
    }
    assert "no ratios of latencies where plain had a load of its own" in capsys.readouterr().out


def kill(worker: WorkerProcess) -> None:
    """Kill the process and wait for its end, leaving it to be reaped by whoever started it."""
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


def test_dead_worker_is_told_and_reaped(engines: Path) -> None:
    worker = WorkerProcess(parse(f"inproc:{engines}/tiny"))
    kill(worker)
    with pytest.raises(BackendError, match="inproc:tiny: the process that carried the load died"):
        worker.give(Give("w", ("a",), (1,), "words"))
    worker.close()
    assert not psutil.pid_exists(worker.pid)


def test_end_of_a_dead_workers_crew_hides_no_error(engines: Path) -> None:
    specs = [parse(f"{name}=inproc:{engines}/tiny") for name in ("dead", "alive")]
    workers: list[WorkerProcess] = []

    def lose_one() -> None:
        with WorkerPool(specs, opening=lambda _: None) as crew:
            workers.extend(crew.workers.values())
            kill(workers[0])
            workers[0].give(Give("w", ("a",), (1,), "words"))

    with pytest.raises(BackendError, match="dead: the process that carried the load died"):
        lose_one()
    assert not any(psutil.pid_exists(worker.pid) for worker in workers)


def test_aborted_benchmark_leaves_no_server_behind(engines: Path) -> None:
    class Stop(Exception):
        """Ctrl-C, or anything else that ends a benchmark early."""

    with suppress(Stop), WorkerPool([parse(f"serve:{engines}/tiny")], opening=lambda _: None) as crew:
        (worker,) = crew.workers.values()
        (server,) = psutil.Process(worker.pid).children()
        raise Stop
    server.wait(30)
