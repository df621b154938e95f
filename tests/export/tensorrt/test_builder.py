"""Plans built by a simulated TensorRT of each version, and what is said when there is none."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from embedge.backends.base import BackendModel
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.engine import Engine
from embedge.backends.tensorrt.plans.timing import TimingCache
from embedge.batches.shapes import Range
from embedge.bundle.manifest import Graph
from embedge_export.tensorrt.builder import Order, build
from embedge_export.tensorrt.facts import check_tensors, precision_share
from embedge_export.tensorrt.failure import PlanError
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt.building import MAGIC
from tests.simulated.tensorrt.built import built, keys_of, model_of, order_of
from tests.tiny import tiny_bundle
from tests.tiny_fused import model as parsed
from tests.tiny_fused import numbers
from tests.tiny_towers import save_graph

_ = simulate
VERSIONS = ("10.3.0", "10.16.1", "11.4.0")
HALF = """
half (float[batch, 8] x) => (float[batch, 8] y)
{
    a = Cast <to = 10> (x)
    b = Cast <to = 10> (table)
    c = MatMul (a, b)
    y = Cast <to = 1> (c)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> BackendModel:
    return model_of(tiny_bundle(tmp_path / "tiny"))


def head(plan: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(plan.removeprefix(MAGIC).partition(b"\n")[0])
    return facts


def troubles() -> Any:
    return library.load()._troubles


def refused(model: BackendModel, stop: threading.Event | None = None) -> PlanError:
    with pytest.raises(PlanError) as error:
        build(order_of(model, "encoder"), lambda *_: None, stop or threading.Event())
    return error.value


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_has_a_profile_for_each_bucket(simulate: Simulate, model: BackendModel, version: str) -> None:
    simulate("cuda-python", tensorrt=version)
    plan = built(model, "encoder")
    wanted = [
        {name: [list(each) for each in bounds] for name, bounds in profile.items()}
        for profile in keys_of(model)["encoder"].profiles
    ]
    assert head(plan)["profiles"] == wanted
    assert head(plan)["version"] == version


def test_progress_is_told_with_the_phase_around_it(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    told: list[tuple[str, str, int, int]] = []
    built(model, "encoder", lambda *what: told.append(what))
    assert told[0] == ("Building Engine", "", 0, 2)
    assert ("Tactic Selection", "Building Engine", 2, 3) in told
    assert ("Tactic Selection", "Building Engine", 3, 3) in told
    assert told[-1] == ("Building Engine", "", 2, 2)


def test_every_parser_error_is_told_with_node_and_operator(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="10.3.0")
    troubles().parse = [(number, f"node_{number}", "Strange", "no importer") for number in range(7)]
    error = refused(model)
    assert error.kind == "parse"
    assert [fault.op for fault in error.faults] == ["Strange"] * 7
    assert "node 3 'node_3' (Strange): no importer [UNSUPPORTED_NODE]" in str(error)
    assert "10.3.0" in str(error)
    assert "encoder" in str(error)
    assert "2 more" in str(error)


def test_out_of_memory_is_told_apart(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    troubles().memory = True
    error = refused(model)
    assert error.kind == "memory"
    assert "Requested size was" in str(error)


def test_a_build_that_fails_without_a_word_is_an_error(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    troubles().silent = True
    assert refused(model).kind == "other"


def test_what_was_said_in_an_earlier_build_is_not_told_again(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    library.logger(library.load()).messages.add("out of memory")
    troubles().silent = True
    assert refused(model).kind == "other"


def test_a_build_that_does_not_end_can_be_cancelled(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    troubles().endless = True
    stop = threading.Event()
    steps: list[int] = []

    def tell(phase: str, parent: str, done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == 3:
            stop.set()

    with pytest.raises(PlanError) as error:
        build(order_of(model, "encoder"), tell, stop)
    assert error.value.kind == "cancelled"


def test_what_kernels_took_is_kept_for_the_next_build(simulate: Simulate, model: BackendModel, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    timing = TimingCache(tmp_path / "timing", keys_of(model)["encoder"])
    order = replace(order_of(model, "encoder"), timing=timing)
    for builds in (1, 2):
        build(order, lambda *_: None, threading.Event())
        assert timing.read().count(b" build") == builds


def test_times_of_another_device_are_not_used(simulate: Simulate, model: BackendModel, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    timing = TimingCache(tmp_path / "timing", keys_of(model)["encoder"])
    timing.merge(lambda _: b"timing of elsewhere", threading.Event())
    build(replace(order_of(model, "encoder"), timing=timing), lambda *_: None, threading.Event())
    assert timing.read().startswith(b"timing 11.4.0")


def test_a_fixed_axis_where_batches_differ_is_named(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    order = order_of(model, "encoder")
    text = "fixed (int64[2, length] input_ids, int64[2, length] attention_mask) => (int64[2, length] dense)"
    save_graph(order.path.parent, "fixed", parsed(text + " { dense = Add (input_ids, attention_mask) }", {}))
    with pytest.raises(PlanError, match=r"'input_ids' has the fixed shape \(2, -1\).*dynamic"):
        build(replace(order, path=order.path.parent / "fixed.onnx"), lambda *_: None, threading.Event())


def engine_of(model: BackendModel, graph: str) -> tuple[Graph, Any]:
    record = model.bundle.manifest.graphs[graph]
    return record, Engine(graph, record, built(model, graph)).raw


def test_tensors_are_held_against_the_manifest(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    record, engine = engine_of(model, "encoder")
    check_tensors("encoder", record, engine)
    with pytest.raises(PlanError, match="'dense' as output of FLOAT, the manifest as none") as error:
        check_tensors("encoder", msgspec.structs.replace(record, outputs=()), engine)
    assert error.value.kind == "precision"


def test_an_output_of_another_type_is_told(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    troubles().dtype = "HALF"
    record, engine = engine_of(model, "encoder")
    with pytest.raises(PlanError, match="'dense' as output of HALF, the manifest as output of FLOAT"):
        check_tensors("encoder", record, engine)


def half_engine(path: Path) -> tuple[Graph, Any]:
    """Return a graph whose product is float16, and its engine."""
    record = msgspec.structs.replace(
        save_graph(path, "half", parsed(HALF, {"table": numbers(8, 8)})), precision="float16"
    )
    order = Order("half", path / "half.onnx", [{"x": Range((1, 8), (2, 8), (4, 8))}], 3, 1 << 20)
    return record, Engine("half", record, build(order, lambda *_: None, threading.Event())).raw


@pytest.mark.parametrize("version", VERSIONS)
def test_the_share_of_products_in_the_graphs_precision(simulate: Simulate, tmp_path: Path, version: str) -> None:
    simulate("cuda-python", tensorrt=version)
    record, engine = half_engine(tmp_path)
    assert precision_share("half", record, engine) == 1.0


def test_a_float16_graph_that_came_out_as_float32_is_refused(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="10.3.0")
    troubles().single = True
    record, engine = half_engine(tmp_path)
    with pytest.raises(PlanError, match=r"'half' is float16, but only 0% of the 1 heavy layers.*'MatMul_2'") as error:
        precision_share("half", record, engine)
    assert error.value.kind == "precision"


def test_a_graph_without_products_has_no_share(simulate: Simulate, model: BackendModel) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    record, engine = engine_of(model, "encoder")
    assert precision_share("encoder", record, engine) is None
