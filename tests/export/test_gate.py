"""The gate lets no wrong bundle out, and leaves nothing behind when it stops one."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from embedge import Bundle
from embedge.bundle.manifest import Certificate, Metric
from embedge.cli import main
from embedge.content import Image
from embedge.verify import Golden, Pairs
from embedge_export import corpus, reference, sources
from embedge_export import recipe as recipes
from embedge_export.build import build
from embedge_export.errors import ExportError, GateMiss
from embedge_export.recipe import Gate, Recipe
from tests.export.models import TEXTS


def run(*args: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line as a shell would; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["embedge", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def small_corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


def test_a_wrong_pooling_is_stopped_and_leaves_nothing(
    plain_model: Path,
    tmp_path: Path,
    small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "wrong.toml"
    recipe.write_text(f'name = "wrong"\nsource = "{plain_model}"\npooling = "cls"\ncorpus = "corpus.txt"\n')
    out = tmp_path / "engines"
    assert run("export", "--recipe", recipe, "--out", out, monkeypatch=monkeypatch) == 1
    said = capfd.readouterr()
    assert "cosine_min" in said.out
    assert "FAIL" in said.out
    assert "the gate stopped the bundle" in said.err
    assert not out.exists()


def test_a_miss_names_the_figure_and_the_worst_input(plain_model: Path, tmp_path: Path, quick: Gate) -> None:
    plan = Recipe(name="wrong", source=str(plain_model), pooling="max", gate=quick)
    with pytest.raises(GateMiss, match="cosine_min") as miss:
        build(plan, tmp_path / "engines")
    figure = miss.value.certificate.metrics["cosine_min"]
    assert figure.value < 0.9
    assert figure.worst.startswith("#")
    assert not (tmp_path / "engines").exists()


def test_a_tokenizer_that_does_not_know_the_corpus_is_stopped(plain_model: Path, tmp_path: Path, quick: Gate) -> None:
    model = shutil.copytree(plain_model, tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {t if t.startswith("[") else f"zz{n}zz": n for t, n in vocabulary.items()}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(GateMiss, match="known_tokens") as miss:
        build(Recipe(name="m", source=str(model), gate=quick), tmp_path / "engines")
    assert miss.value.certificate.metrics["known_tokens"].value == 0
    assert miss.value.certificate.metrics["cosine_min"].passed


def test_the_certificate_says_how_much_text_is_known(bundle: Path) -> None:
    certificate = Bundle.load(bundle).manifest.certificate
    assert certificate is not None
    assert 0.9 < certificate.metrics["known_tokens"].value < 1


def test_json_report(
    plain_model: Path,
    tmp_path: Path,
    small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    args = (plain_model, "--out", tmp_path / "engines", "--name", "m", "--corpus", small_corpus, "--json")
    assert run("export", *args, monkeypatch=monkeypatch) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["passed"] is True
    assert report["bundle"] == str(tmp_path / "engines" / "m" / "1")
    assert report["certificate"]["items"] == len(set(TEXTS))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "name a SOURCE"),
        (("./nowhere",), "no such file or directory"),
        (("--recipe", "nowhere.toml"), "cannot be read"),
        (("package:not_installed/model",), "is not installed"),
    ],
)
def test_user_errors_are_one_line_and_exit_code_two(
    args: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", *args, monkeypatch=monkeypatch) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("embedge: ")
    assert says in last
    assert list(tmp_path.iterdir()) == []


def test_an_original_that_is_not_finite_is_refused(plain_model: Path, small_corpus: Path) -> None:
    recipe = Recipe(name="m", source="x", corpus=str(small_corpus))
    model = sources.load(plain_model, recipe)
    broken = {"dense": np.full(32, np.nan, np.float32)}
    towers = {name: replace(tower, original=lambda item: broken) for name, tower in model.towers.items()}
    with pytest.raises(ExportError, match=r"text\.dense that are not finite, for 'the value of a list'"):
        reference.run_reference(replace(model, towers=towers), recipe)


@pytest.mark.parametrize("kind", ["dense", "multi_vector"])
def test_vectors_that_are_said_to_be_normalized_and_are_not_are_refused(kind: str, tmp_path: Path) -> None:
    shape = [4] if kind == "dense" else [3, 4]
    places = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name in ("taken", "given")]
    graph = helper.make_graph([helper.make_node("Neg", ["taken"], ["given"])], "negative", places[:1], places[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "own.onnx"
    )
    recipe = tmp_path / "own.toml"
    recipe.write_text(f"""
name = "own"
gate = {{ items = 16, golden = 16 }}
[tower.one]
onnx = "own.onnx"
parts.numbers.prepare = {{ modality = "tensor", shape = {shape}, inputs = {{ values = "taken" }} }}
outputs.out = {{ kind = "{kind}", tensor = "given", space = "own", dim = 4, normalized = true }}
""")
    with pytest.raises(ExportError, match="'out' of tower 'one' is declared normalized, but has a vector of length"):
        build(recipes.load(recipe), tmp_path / "engines")
    assert not (tmp_path / "engines").exists()


def test_golden_pairs_travel_thinned_and_within_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"image": Image(bytes(1000))} for _ in range(40)]
    golden = Golden({"image": Pairs(items, {"dense": [np.full(4, row, np.float32) for row in range(40)]})})
    found = reference.Reference(golden, "")
    assert len(found.thinned(16).towers["image"].items) == 16
    monkeypatch.setattr(reference, "_GOLDEN_BYTES", 5100)  # stands for sixteen mebibytes
    kept = found.thinned(16).towers["image"]
    assert [int(row[0]) for row in kept.outputs["dense"]] == [0, 8, 16, 24, 32]


def test_a_miss_of_many_figures_is_still_one_line() -> None:
    metrics = {f"tower{n}.dense.cosine_min": Metric(value=0, threshold=1, better="higher") for n in range(30)}
    miss = GateMiss(Certificate(metrics=metrics, items=0, corpus="", device="", backend=""))
    assert "tower5.dense.cosine_min and 24 more missed the threshold" in str(miss)


def test_the_standard_corpus_is_varied_and_the_same_every_time() -> None:
    texts = corpus.standard(300)
    assert texts == corpus.standard(300)
    assert len(set(texts)) == len(texts) == 300
    assert min(map(len, texts)) < 5
    assert max(map(len, texts)) > 2000
    assert any(not text.isascii() for text in texts)


def test_a_corpus_file_may_be_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"passage {n}"}) for n in range(30)))
    assert corpus.load(str(file), 20) == ([f"passage {n * 30 // 20}" for n in range(20)], "c.jsonl")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("one\ntwo\n", "needs at least 16"),
        ("a\n" * 99, "needs at least 16"),
        ('{"body": 1}', "line 1: not a JSON object"),
    ],
)
def test_a_useless_corpus_is_refused(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / ("c.jsonl" if content.startswith("{") else "c.txt")
    file.write_text(content)
    with pytest.raises(ExportError, match=says):
        corpus.load(str(file), 10)
