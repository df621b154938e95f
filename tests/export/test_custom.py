"""Towers of one's own: modules and ONNX files that a recipe describes, from its text to the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from embedge import Embedder, RuntimeConfig
from embedge.bundle.manifest import Manifest
from embedge.errors import EmbedgeError
from embedge_export import recipe as recipes
from embedge_export.build import build
from embedge_export.errors import ExportError, GateMiss
from embedge_export.user_code import resolve
from tests.export.towers import clip

COLD = RuntimeConfig(warm_up_seconds=0)

MODEL = """
import numpy as np
import torch
from torch import nn

from sizes import DIM


class Walk(nn.Module):
    \"\"\"Steps (batch, time, 3) and which of them are there to a summary, and a vector for each step.\"\"\"

    def __init__(self, width=8):
        super().__init__()
        self.step, self.out = nn.Linear(3, width), nn.Linear(width, DIM)

    def forward(self, steps, there):
        hidden = torch.tanh(self.step(steps)) * there[..., None]
        mean = hidden.sum(1) / there.sum(1, keepdim=True)
        kept = there > 0
        return {"stepped": self.out(hidden), "summary": self.out(mean), "kept": kept, "there": kept}


def prepared(steps):
    return {"steps": np.asarray(steps, np.float32), "there": np.ones(len(steps), np.float32)}


def doubled(steps):
    return {"steps": 2 * steps, "there": np.ones(len(steps), np.float32)}


def items(count):
    return [np.random.default_rng(n).standard_normal((1 + n % 7, 3)).astype(np.float32) for n in range(count)]


def known(steps):
    return {"walk": np.ones(DIM, np.float32), "steps": np.ones((len(steps), DIM), np.float32)}


def broken():
    raise OSError("no such thing")


def number():
    return 7
"""

RECIPE = """
name = "walks"
[tower.walk]
module = "walk:Walk"
arguments = { width = 6 }
normalize = true
dtypes = { there = "float32" }
[tower.walk.parts.path.prepare]
modality = "tensor"
shape = ["time", 3]
max_length = 64
inputs = { values = "steps", mask = "there" }
[tower.walk.outputs.walk]
kind = "dense"
tensor = "summary"
space = "walks"
dim = 5
normalized = false
[tower.walk.outputs.steps]
kind = "multi_vector"
tensor = "stepped"
keep = "kept"
space = "steps"
dim = 5
normalized = false
[space.walks]
scale = 20.0
[gate]
items = 16
golden = 16
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "walk.py").write_text(MODEL)
    (tmp_path / "sizes.py").write_text("DIM = 5\n")
    return tmp_path


def made(folder: Path, text: str = RECIPE, **overrides: Any) -> tuple[Path, Manifest]:
    (folder / "walks.toml").write_text(text)
    return build(recipes.load(folder / "walks.toml", **overrides), folder / "engines", force=True)


def original(folder: Path) -> Any:
    """The module as the export makes it, by its own code alone."""
    import torch

    torch.manual_seed(0)
    return resolve("walk:Walk", str(folder))(width=6).eval()


def test_a_module_of_ones_own(folder: Path) -> None:
    import torch

    path, manifest = made(folder)
    assert manifest.certificate is not None
    assert {"walk.walk.cosine_min", "walk.steps.counts", "walk.steps.padding_max_sim"} <= set(
        manifest.certificate.metrics
    )
    assert {(space.metric, space.scale) for space in manifest.spaces.values()} == {("cosine", 20), ("max_sim", 1)}
    assert manifest.towers["walk"].outputs["walk"].normalized  # type: ignore[union-attr]
    walks = [np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32) for n in (1, 9, 30)]
    with Embedder.open(path, config=COLD) as embedder:
        ours, steps = embedder.embed(walks), embedder.embed(walks, output="steps")
    module = original(folder)
    for row, walk in enumerate(walks):
        with torch.no_grad():
            theirs = module(torch.from_numpy(walk)[None], torch.ones(1, len(walk)))
        summary = theirs["summary"][0].numpy()
        np.testing.assert_allclose(ours[row], summary / np.linalg.norm(summary), atol=1e-5)
        assert steps[row].shape == (len(walk), 5)


def test_weights_come_from_a_file_and_make_the_space(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    module = original(folder)
    with torch.no_grad():
        module.out.bias += 1
    save_file(module.state_dict(), folder / "walk.safetensors")
    _, plain = made(folder)
    _, loaded = made(folder, RECIPE.replace("normalize = true", 'normalize = true\nweights = "walk.safetensors"'))
    assert set(plain.spaces).isdisjoint(loaded.spaces)
    (folder / "walk.py").write_text(MODEL.replace("torch.tanh", "torch.relu"))
    _, other = made(folder)
    assert set(plain.spaces).isdisjoint(other.spaces)  # other code with the same weights
    assert "walk.safetensors" in loaded.provenance.hashes
    assert str(folder) not in loaded.provenance.recipe


def test_the_recipe_may_say_how_the_original_prepares_and_what_the_samples_are(folder: Path) -> None:
    said = RECIPE.replace("normalize = true", 'normalize = true\npreprocess = "walk:prepared"\nsamples = "walk:items"')
    made(folder, said)
    with pytest.raises(GateMiss, match=r"walk\.walk\.cosine_min"):
        made(folder, said.replace("walk:prepared", "walk:doubled"))
    with pytest.raises(GateMiss, match=r"walk\.steps\.cosine_min"):
        made(folder, said.replace('preprocess = "walk:prepared"', 'original = "walk:known"'))


@pytest.mark.parametrize("name", ["walks.npy", "walks.jsonl"])
def test_samples_from_files(name: str, folder: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 4, 3)).astype(np.float32)
    np.save(folder / "walks.npy", rows)
    (folder / "walks.jsonl").write_text("\n".join(f'{{"path": {row.tolist()}}}' for row in rows))
    _, manifest = made(folder, RECIPE.replace("normalize = true", f'normalize = true\nsamples = "{name}"'))
    assert manifest.certificate is not None
    assert manifest.certificate.items == 16
    assert manifest.certificate.corpus == "samples of the source's own"


def onnx_file(path: Path, dim: int = 6, batch: str | int = "rows") -> Path:
    """Features and a table row of numbers to their product with a table."""
    table = np.random.default_rng(0).standard_normal((4, dim)).astype(np.float32)
    inputs = [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [batch, 4])]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [batch, dim])]
    nodes = [
        helper.make_node("Cast", ["features"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["single", "table"], ["vector"]),
    ]
    graph = helper.make_graph(nodes, "features", inputs, outputs, [numpy_helper.from_array(table, "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


ONNX = """
name = "walks"
[gate]
items = 16
golden = 16
[tower.one]
onnx = "one.onnx"
parts.features.prepare = { modality = "vector", dim = 4, inputs = { values = "features" } }
outputs.out = { kind = "dense", tensor = "vector", space = "both", dim = 6, normalized = false }
[tower.two]
onnx = "two.onnx"
parts.features.prepare = { modality = "tensor", shape = [4], inputs = { values = "features" } }
outputs.out = { kind = "dense", tensor = "vector", space = "both", dim = 6, normalized = false }
"""


def test_several_onnx_files_make_one_model(tmp_path: Path) -> None:
    onnx_file(tmp_path / "one.onnx")
    onnx_file(tmp_path / "two.onnx")
    path, manifest = made(tmp_path, ONNX)
    assert {graph.file for graph in manifest.graphs.values()} == {"one.onnx", "two.onnx"}
    assert manifest.graphs["one"].inputs[0].dtype == "float64"
    assert manifest.graphs["one"].outputs[0].shape == ("batch", 6)
    assert len(manifest.spaces) == 1
    _, shared = made(tmp_path, ONNX.replace("two.onnx", "one.onnx"))
    assert [graph.file for graph in shared.graphs.values()] == ["model.onnx"]
    with Embedder.open(path, config=COLD) as embedder:
        assert embedder.embed([np.ones(4)], tower="two").shape == (1, 6)


def test_a_tower_joins_the_space_of_a_source(folder: Path) -> None:
    source = clip(folder / "clip")
    said = RECIPE.replace('space = "walks"\ndim = 5', 'space = "clip"\ndim = 24').replace(
        'tensor = "summary"', 'tensor = "wide"'
    )
    module = MODEL.replace("return {", 'return {"wide": self.out(mean).repeat(1, 5)[:, :24], ')
    (folder / "walk.py").write_text(module)
    text = f'source = "{source}"\ntowers = ["image", "walk"]\n' + said.replace("[space.walks]\nscale = 20.0\n", "")
    _, manifest = made(folder, text)
    assert list(manifest.towers) == ["image", "walk"]
    assert manifest.towers["walk"].outputs["walk"].space == manifest.towers["image"].outputs["dense"].space  # type: ignore[union-attr]


def test_code_beside_a_recipe_is_its_own(tmp_path: Path) -> None:
    for name, dim in (("a", 5), ("b", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "walk.py").write_text(MODEL)
        (tmp_path / name / "sizes.py").write_text(f"DIM = {dim}\n")
        assert resolve("walk:Walk", str(tmp_path / name))().out.out_features == dim


WRONG: dict[str, tuple[str, str, str]] = {
    "no such file": ("walk:Walk", "wlak:Walk", "wlak:Walk: cannot be imported"),
    "no such name": ("walk:Walk", "walk:Wlak", "has no callable 'Wlak'"),
    "no name": ("walk:Walk", "walk", "write it as package.file:name"),
    "raises": ('"walk:Walk"\narguments = { width = 6 }', '"walk:broken"', "cannot be made: OSError: no such thing"),
    "no module": ('"walk:Walk"\narguments = { width = 6 }', '"walk:number"', r"returns int, not a torch\.nn\.Module"),
    "other arguments": ("width = 6", "depth = 6", "cannot be made: TypeError"),
    "no weights": ("normalize = true", 'weights = "none.safetensors"', "the weights cannot be loaded"),
    "another tensor": ('tensor = "summary"', 'tensor = "sum"', "returns stepped, summary, kept, there, but no 'sum'"),
    "another dtype's input": ("dtypes = { there", "dtypes = { here", "input 'here'; the parts make: steps, there"),
    "another input": ('values = "steps"', 'values = "stairs"', "unexpected keyword argument 'stairs'"),
    "another size": ("dim = 5", "dim = 4", r"outputs\.[a-z]+ declares dim 4, the module returns 5"),
    "samples that raise": ("normalize = true", 'samples = "walk:broken"', "tower 'walk' cannot be made"),
    "no samples": ("normalize = true", 'samples = "none.jsonl"', r"none\.jsonl: no items can be read"),
    "both": ("normalize = true", 'onnx = "a.onnx"', "has one of module, onnx and steps"),
    "neither": ('module = "walk:Walk"\n', "", "parts and outputs need module, onnx or steps"),
    "a name twice": ('keep = "kept"', 'keep = "there"', "'there' is an input and an output"),
    "unknown key": ("normalize = true", "normalise = true", "normalise"),
    "a part of no modality": ('modality = "tensor"', 'modality = "smell"', "smell"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_says_what_is_wrong(case: str, folder: Path) -> None:
    before, after, says = WRONG[case]
    assert before in RECIPE
    with pytest.raises(EmbedgeError, match=says):
        made(folder, RECIPE.replace(before, after))
    assert not (folder / "engines" / "walks").exists()


@pytest.mark.parametrize(
    ("batch", "dim", "says"),
    [(1, 6, "has the fixed size 1 where 'batch' varies"), ("rows", 5, "declares dim")],
)
def test_an_onnx_file_that_does_not_fit_is_refused(batch: Any, dim: int, says: str, tmp_path: Path) -> None:
    onnx_file(tmp_path / "one.onnx")
    onnx_file(tmp_path / "two.onnx", dim, batch)
    with pytest.raises(EmbedgeError, match=says):
        made(tmp_path, ONNX)


UNTRACEABLE = {
    "branch": ("if x.sum() > 0:\n            x = -x", "data-dependent"),
    "operator": ("x = torch.linalg.eigvals(x[:, :4, None] * x[:, None, :4]).real", "linalg_eig"),
}


@pytest.mark.parametrize("case", UNTRACEABLE)
def test_what_cannot_be_traced_is_said(case: str, tmp_path: Path) -> None:
    line, says = UNTRACEABLE[case]
    (tmp_path / "bad.py").write_text(
        "import torch\nclass Bad(torch.nn.Module):\n    def forward(self, features):\n"
        f"        x = features\n        {line}\n        return x\n"
    )
    table = '[tower.bad]\nmodule = "bad:Bad"\n' + ONNX.split('onnx = "one.onnx"\n')[1].split("[tower.two]")[0]
    text = 'name = "walks"\n' + table.replace("dim = 6", "dim = 4")
    with pytest.raises(ExportError, match=f"cannot be traced with features .*: .*{says}"):
        made(tmp_path, text)
