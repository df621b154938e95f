"""Which bundle a path means. What is inside one is tested where bundles are made, in tests/export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedge import Bundle, BundleError
from embedge.bundle import find
from tests.tiny import tiny_bundle


def model(root: Path, *versions: str) -> Path:
    for version in versions:
        (root / version).mkdir(parents=True)
        (root / version / "manifest.json").write_text("{}")
    return root


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["1", "2", "10"], "10"),
        (["v9", "v10"], "v10"),
        (["1.2.9", "1.10.0", "1.9.9"], "1.10.0"),
        (["2024-01-02", "2023-12-31"], "2024-01-02"),
        (["only"], "only"),
        (["²", "1"], "1"),
        (["1", "1²"], "1²"),
    ],
)
def test_a_model_directory_means_its_newest_version(tmp_path: Path, versions: list[str], newest: str) -> None:
    assert find(model(tmp_path / "m", *versions)).name == newest


def test_a_bundle_directory_means_itself(tmp_path: Path) -> None:
    bundle = model(tmp_path / "m", "1", "2") / "1"

    assert find(bundle) == bundle


def test_what_is_no_bundle_is_no_version(tmp_path: Path) -> None:
    root = model(tmp_path / "m", "1")
    (root / "2").mkdir()
    (root / "9.txt").write_text("notes")

    assert find(root).name == "1"


def test_a_repository_is_no_bundle_but_names_its_models(tmp_path: Path) -> None:
    for name in ("two", "one"):
        model(tmp_path / name, "1", "2")

    with pytest.raises(BundleError, match=r"holds models, and is no bundle; name one of them: one, two"):
        find(tmp_path)


@pytest.mark.parametrize("path", ["missing", "empty", "file"])
def test_a_path_without_a_bundle_says_what_to_do(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(BundleError, match="embedge export") as refused:
        Bundle.load(tmp_path / path)
    assert str(tmp_path / path) in str(refused.value)


def test_a_bundle_loads_from_its_model_directory(tmp_path: Path) -> None:
    for version in ("1", "2"):
        tiny_bundle(tmp_path / "tiny" / version, version=version)

    bundle = Bundle.load(tmp_path / "tiny")

    assert bundle.manifest.version == "2"
    assert bundle.graph("encoder").read_bytes()


# Manifests and files that are not what they should be.


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    """Make a bundle and change the JSON of its manifest."""
    file = tiny_bundle(path) / "manifest.json"
    manifest = json.loads(file.read_bytes())
    change(manifest)
    file.write_text(json.dumps(manifest))
    return path


def prepare(manifest: Any) -> Any:
    return manifest["towers"]["text"]["parts"]["text"]["prepare"]


def dense(manifest: Any) -> Any:
    return manifest["towers"]["text"]["outputs"]["dense"]


def tensor(**options: Any) -> Callable[[Any], object]:
    """Make the part a tensor of points."""
    spec = {"modality": "tensor", "inputs": {"values": "input_ids"}, "shape": ["points", 3], **options}
    return lambda manifest: manifest["towers"]["text"]["parts"]["text"].update(prepare=spec)


def table(*columns: dict[str, Any], roles: tuple[str, ...] = ("numbers",)) -> Callable[[Any], object]:
    """Make the part a row of a table."""
    spec = {"modality": "table", "inputs": dict.fromkeys(roles, "input_ids"), "columns": columns}
    return lambda manifest: manifest["towers"]["text"]["parts"]["text"].update(prepare=spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: prepare(m).update(max_length=0), "max_length"),
        (lambda m: prepare(m).update(max_length=-1), "max_length"),
        (lambda m: prepare(m).update(max_length=10**12), "max_length"),
        (lambda m: prepare(m).update(pad_id=-1), "pad_id"),
        (lambda m: prepare(m).update(inputs={"mask": "attention_mask"}), "no graph input to 'ids'"),
        (lambda m: prepare(m)["inputs"].update(types="kinds"), "names 'kinds'"),
        (lambda m: prepare(m).update(inputs={"ids": "input_ids"}), "names 'attention_mask'"),
        (lambda m: prepare(m).update(default_prompt="poem"), "names 'poem'.*passage, query"),
        (lambda m: prepare(m).update(tokenizer="none.json"), "names 'none.json'"),
        (lambda m: dense(m).update(dim=0), "dim"),
        (lambda m: dense(m).update(dims=[8, 17]), "size 17, but its vectors have 16"),
        (lambda m: dense(m).update(dims=[0]), "dims"),
        (lambda m: dense(m).update(tensor="sparse"), "names 'sparse'"),
        (lambda m: dense(m).update(space="other"), "names 'other'"),
        (lambda m: m["spaces"]["tiny-16-0"].update(dim=-5), "dim"),
        (lambda m: m["towers"]["text"].update(steps=[]), "output 'dense' of tower 'text' names 'dense'"),
        (lambda m: m["towers"]["text"].update(steps=["decoder"]), "names 'decoder'"),
        (lambda m: m["towers"]["text"].update(outputs={}), "outputs"),
        (lambda m: m["towers"]["text"].update(parts={}), "parts"),
        (lambda m: m.update(towers={}), "no towers"),
        (lambda m: m["towers"]["text"]["buckets"].update(lengths=[]), "lengths"),
        (lambda m: m["towers"]["text"]["buckets"].update(lengths=[0]), "lengths"),
        (lambda m: m["towers"]["text"]["buckets"].update(lengths=[1e9]), "lengths"),
        (lambda m: m["towers"]["text"]["buckets"].update(lengths=[10**9]), "lengths"),
        (lambda m: m["towers"]["text"]["buckets"].update(lengths=[33]), "buckets go up to length 33"),
        (lambda m: m["towers"]["text"]["buckets"].update(batches=[10**6]), "batches"),
        (tensor(shape=[3, "points"]), "a symbol that is not its first axis"),
        (tensor(minimum=2, maximum=1), "from 2.0 to 1.0, which are none"),
        (tensor(missing="mask"), "maps no graph input to 'observed'"),
        (tensor(steps=[{"step": "resample", "count": 4}], dtype="int64"), "need rows of floats"),
        (tensor(steps=[{"step": "resample", "count": 4}], shape=[]), "need rows of floats"),
        (tensor(steps=[{"step": "farthest_points", "count": 4}], shape=["points", 2]), r"\(points, 3 or more\)"),
        (table({"name": "age"}, {"name": "age"}), "two columns of one name"),
        (table({"name": "land", "categories": ["a", "a"]}, roles=("categories",)), "'land'.*a category twice"),
        (table({"name": "land", "categories": ["a", "b"]}), "graph input to 'numbers' if it has such columns"),
        (table({"name": "age"}, {"name": "land", "categories": ["a"]}), "graph input to 'categories' if it has"),
    ],
)
def test_a_manifest_that_cannot_be_true_is_refused(
    tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    path = changed(tmp_path / "b", change)

    with pytest.raises(BundleError, match=f"(?s){message}.*export the bundle again") as refused:
        Bundle.load(path)
    assert str(path / "manifest.json") in str(refused.value)


def test_a_step_may_read_what_an_earlier_one_made(tmp_path: Path) -> None:
    def two_steps(manifest: Any) -> None:
        (graph,) = manifest["graphs"].values()
        middle = {"name": "dense", "dtype": "float32", "shape": ["batch", 16]}
        manifest["graphs"]["head"] = graph | {"inputs": [middle], "outputs": [middle | {"name": "head"}]}
        manifest["towers"]["text"]["steps"] = ["encoder", "head"]

    def other_order(manifest: Any) -> None:
        two_steps(manifest)
        manifest["towers"]["text"]["steps"] = ["head", "encoder"]

    assert Bundle.load(changed(tmp_path / "b", two_steps)).manifest.towers["text"].steps == ("encoder", "head")
    with pytest.raises(BundleError, match="step 'head' of tower 'text' names 'dense'"):
        Bundle.load(changed(tmp_path / "c", other_order))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'{"format": 1, "name": "\xff"}', b"[" * 200_000, b'{"format":' * 200_000, b"\xff\xfe{"]
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)

    with pytest.raises(BundleError, match=r"manifest\.json: .*export the bundle again"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b", r"a\\x00b: cannot be read"),
        ("x" * 5000, "xxx…: cannot be read"),
        ("circle", "circle: "),
        ("../outside", "outside the bundle"),
        ("/etc/passwd", "outside the bundle"),
        ("nowhere", "missing"),
        (".", "missing"),
        ("", "missing"),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    path = changed(tmp_path / "b", lambda manifest: manifest["files"].update({name: "0" * 64}))
    (path / "circle").symlink_to("circle")

    with pytest.raises(BundleError, match=message) as refused:
        Bundle.load(path)
    assert len(str(refused.value)) < 1000


def test_a_manifest_that_links_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").symlink_to("manifest.json")

    with pytest.raises(BundleError, match="export"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000], ids=["nul", "long"])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(BundleError):
        Bundle.load(path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "tokenizer.json"])
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tiny_bundle(tmp_path / "b")
    real = Path.open

    def guarded(self: Path, *args: Any, **options: Any) -> Any:  # a real mode would not stop a test that root runs
        if self.name == name:
            raise PermissionError(13, os.strerror(13), str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(BundleError, match=f"{name}: cannot be read: Permission denied; allow this user"):
        Bundle.load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "b")
    path.chmod(0)
    try:
        with pytest.raises(BundleError):
            Bundle.load(path)
    finally:
        path.chmod(0o700)
