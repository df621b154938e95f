"""The child process itself, over a simulated TensorRT, as the supervisor runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from embedge import cli
from embedge.backends.base import BackendModel
from embedge.backends.tensorrt.plans.build import COMMAND, Builder
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.messages import Built, Failed, Log, Message, Progress, Refused
from embedge.backends.tensorrt.plans.record import Plan
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.errors import BackendError, Unavailable
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt import Troubles
from tests.simulated.tensorrt.built import keys_of, model_of
from tests.tiny import tiny_bundle
from tests.tiny_heads import tiny_heads

_ = simulate
SITE = Path(__file__).parents[2] / "simulated" / "site"
VERSION = "10.16.1"


class Run:
    """A build in a child process, and its messages."""

    def __init__(self, tmp_path: Path, model: BackendModel, keys: dict[str, PlanKey]) -> None:
        self.messages: list[Message] = []
        self.begun = threading.Event()  # set in the builder's thread, waited for by the test's
        self.store = PlanStore(tmp_path / "plans")
        self.builder = Builder(self.store, self._on_message, command=COMMAND)
        self._model, self._keys = model, keys

    def __call__(self) -> dict[str, Plan]:
        return self.builder.build(self._model.bundle, self._keys, self._model.config)

    def all(self, kind: type) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    def _on_message(self, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, Progress) and message.parent:
            self.begun.set()


@pytest.fixture
def run(tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A build of a tiny bundle."""
    return made(tmp_path, simulate, monkeypatch, tiny_bundle(tmp_path / "tiny"))


def test_the_builder_takes_no_modules_of_the_working_directory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "tensorrt", "json", "embedge_export"):
        (run.store.root.parent / f"{name}.py").write_text("raise SystemExit('a module of the working directory')")
    monkeypatch.chdir(run.store.root.parent)
    assert run()["encoder"].record.sha256


def made(tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> Run:
    simulate("cuda-python", tensorrt=VERSION)
    settings = {"providers": ["cuda-python"], "tensorrt": VERSION, "order": "random", "seed": 7}
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps(settings))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]))
    model = model_of(bundle)
    return Run(tmp_path, model, keys_of(model))


def trouble(monkeypatch: pytest.MonkeyPatch, **troubles: Any) -> None:
    monkeypatch.setenv("EMBEDGE_SIMULATED_TROUBLES", Troubles(**troubles).to_json())


def test_a_plan_is_built_and_proven(run: Run) -> None:
    plan = run()["encoder"]
    (built,) = run.all(Built)
    assert len(plan.read()) == built.nbytes
    assert built.figures["cosine_min"] > 0.999999
    assert plan.record.figures == built.figures
    phases = [(message.phase, message.parent) for message in run.all(Progress)]
    assert phases[0] == ("Building Engine", "")
    assert ("Tactic Selection", "Building Engine") in phases
    assert phases[-1] == ("proving", "")
    assert list(run.store.timing.iterdir())


def test_all_graphs_of_a_bundle_are_built_in_one_child(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path, simulate, monkeypatch, tiny_heads(tmp_path / "heads"))
    assert run().keys() == {"trunk", "left", "right", "deep", "picky", "other"}
    assert [message.graph for message in run.all(Built)] == list(run())


def test_wrong_numbers_are_a_refusal_that_is_remembered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble(monkeypatch, company=0.5)
    plan = run()["encoder"]
    (refused,) = run.all(Refused)
    assert "row 1 of" in refused.reason
    assert plan.record.refused == refused.reason
    trouble(monkeypatch)
    assert run()["encoder"].record.refused


@pytest.mark.parametrize(
    ("troubles", "kind", "told"),
    [
        ({"parse": [(4, "mean", "Strange", "no importer")]}, "parse", "Strange"),
        ({"memory": True}, "memory", "ran out of memory"),
        ({"dtype": "HALF"}, "precision", "HALF"),
    ],
)
def test_a_build_that_fails_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, troubles: dict[str, Any], kind: str, told: str
) -> None:
    trouble(monkeypatch, **troubles)
    if kind == "memory":
        with pytest.raises(BackendError, match=told):
            run()
    else:
        assert told in run()["encoder"].record.refused
    (failed,) = run.all(Failed)
    assert (failed.kind, failed.graph) == (kind, "encoder")
    assert kind != "memory" or run.all(Log)[-1].level == "error"


def test_a_child_that_crashes_is_an_error_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble(monkeypatch, crash=True)
    with pytest.raises(BackendError, match="crashed with SIGSEGV"):
        run()


def test_a_build_is_cancelled_by_a_signal_that_only_the_main_thread_hears(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble(monkeypatch, endless=True)
    raised: list[BaseException] = []

    def build() -> None:
        try:
            run()
        except Unavailable as error:
            raised.append(error)

    building = threading.Thread(target=build)  # owned by this test
    building.start()
    assert run.begun.wait(60)
    run.builder.cancel()
    building.join(60)
    assert "cancelled" in str(raised[0])
    assert [message.kind for message in run.all(Failed)] == ["cancelled"], "it ended by itself, not by SIGKILL"


def test_another_tensorrt_than_asked_for_builds_nothing(run: Run) -> None:
    run._keys = {graph: replace(key, tensorrt="10.3.0") for graph, key in run._keys.items()}
    with pytest.raises(BackendError, match=r"10\.3\.0 was requested, and this process has 10\.16\.1"):
        run()
    assert [message.kind for message in run.all(Failed)] == ["unavailable"]


def test_without_tensorrt_each_graph_is_told_of(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path, simulate, monkeypatch, tiny_heads(tmp_path / "heads"))
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps({"providers": ["cuda-python"]}))
    with pytest.raises(BackendError, match="TensorRT is not installed"):
        run()
    assert len(run.all(Failed)) == 6


def test_the_command_builds_and_shows_the_plan(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    made(tmp_path, simulate, monkeypatch, bundle)
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    assert cli._run(["build", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "encoder" in shown
    assert "good" in shown


def test_nothing_heavy_is_imported() -> None:
    """Neither torch, which a device has not, nor onnx, nor the exporter's own half."""
    code = (
        "import sys, embedge_export.tensorrt.__main__; "
        "print([n for n in sys.modules if n.partition('.')[0] in {'torch', 'onnx', 'transformers', 'onnxruntime'}])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
