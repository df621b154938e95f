"""Recipes: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge.errors import EmbedgeError
from embedge_export import recipe

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str, **overrides: object) -> recipe.Recipe:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return recipe.load(file, **overrides)


GOOD = 'name = "m"\nsource = "./model"\n'


def test_a_short_recipe_has_defaults(tmp_path: Path) -> None:
    made = load(tmp_path, GOOD)
    assert (made.version, made.opset, made.precision, made.modes) == ("1", 20, "float32", ())
    assert made.gate.thresholds([""])["cosine_min"] == 0.99999


def test_everything_can_be_said(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        GOOD
        + 'pooling = ["cls", "mean"]\nmax_length = 64\ndims = [64, 32]\nnormalize = true\ncorpus = "c.txt"\n'
        + 'default_prompt = "q"\nopset = 18\n[prompts]\nq = "query: "\n[gate]\nrecall_at_10 = 0.9\nitems = 64\n',
    )
    assert made.modes == ("cls", "mean")
    assert made.corpus == str(tmp_path / "c.txt")
    assert made.gate.thresholds([""])["recall_at_10"] == 0.9


def test_a_tower_has_what_its_table_says_and_the_rest_from_the_top(tmp_path: Path) -> None:
    made = load(
        tmp_path, GOOD + 'max_length = 64\ndims = [8]\n[tower.text]\nmax_length = 32\nprompts = { q = "q: " }\n'
    )
    assert (made.of("text").max_length, made.of("text").dims, made.of("text").prompts) == (32, (8,), {"q": "q: "})
    assert (made.of("image").max_length, made.of("image").prompts) == (64, None)


def test_limits_by_figure_and_by_full_name() -> None:
    gate = recipe.Gate(max_abs=0.5, single={"image.dense.max_abs": 0.25})
    limits = gate.thresholds(["text.dense.", "image.dense."])
    assert (limits["text.dense.max_abs"], limits["image.dense.max_abs"]) == (0.5, 0.25)
    assert limits["text.dense.batch_max_abs"] == gate.batch_max_abs
    assert limits["text.dense.order_support"] == gate.support  # an invariance without a limit of its own


def test_options_override_the_file(tmp_path: Path) -> None:
    made = load(tmp_path, GOOD, version="2", pooling=("max",), name=None)
    assert (made.name, made.version, made.modes) == ("m", "2", ("max",))


def test_a_source_alone_names_its_model() -> None:
    assert recipe.load(None, source="org/Some-Model").name == "some-model"
    assert recipe.load(None, source="dir/encoder.onnx").name == "encoder"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "not valid TOML"),
        ('source = "x"\nname = "m"\nversoin = "2"\n', "versoin"),
        ('name = "m"\n', "source"),
        (GOOD + 'pooling = "average"\n', "average"),
        (GOOD + "opset = 17\n", "18"),
        (GOOD + "opset = 21\n", "20"),
        (GOOD + "max_length = 0\n", "max_length"),
        (GOOD + "corpus = 3\n", "corpus"),
        (GOOD + 'precision = "float8"\n', "precision|float8"),
        (GOOD + "[tower.a]\n[tower.b]\nmax_length = 0\n", "at `tower.b.max_length`"),
        (GOOD + '[tower.b]\nonnx = "b"\n[tower.b.outputs.c]\nkind = "dense"\ndim = "x"\n', "`tower.b.outputs.c"),
        (GOOD + "[gate]\ncosine = 0.9\n", "cosine"),
        ('name = "../m"\nsource = "x"\n', "'../m' is not possible"),
        ('name = ".m"\nsource = "x"\n', "'.m' is not possible"),
        (GOOD + 'version = "a/b"\n', "'a/b' is not possible"),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(EmbedgeError, match=says) as error:
        load(tmp_path, text)
    assert "recipe.toml" in str(error.value)


@pytest.mark.parametrize("file", sorted((ROOT / "engines/recipes").glob("*.toml")), ids=lambda file: file.stem)
def test_committed_recipes_are_valid_and_name_no_machine(file: Path) -> None:
    made = recipe.load(file)
    assert made.name == file.stem
    assert not made.source.startswith("/")
