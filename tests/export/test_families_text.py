"""Families of texts: what the libraries' own encoders give, through the runtime, in one batch of all lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Embedder, RuntimeConfig
from embedge.bundle.manifest import Manifest
from embedge.content import Image, Text
from embedge.errors import InvalidInput
from embedge.request import Request
from embedge.verify.compare import rows
from embedge_export import sources
from embedge_export.build import build
from embedge_export.bundle import space_id
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.images import images
from embedge_export.sources.originals import picture
from tests.export import texts
from tests.export.models import TEXTS, cosines, encoder

COLD = RuntimeConfig(warm_up_seconds=0, lanes=1, threads=1)
FEW = Gate(items=16, golden=16, known_tokens=0.5)
SLOW = ("inference_free", "router", "clip_model", "attending")
MODELS: dict[str, Callable[[Path], Path]] = {**texts.MODELS, "attending": lambda path: texts.colbert(path, attend=True)}


@dataclass(frozen=True)
class Made:
    """A model's directory, and the bundle that was made of it."""

    name: str
    source: Path
    bundle: Path
    manifest: Manifest

    def output(self) -> str:
        return next(iter(next(iter(self.manifest.towers.values())).outputs))

    def original(self) -> Any:
        kinds = {"sparse": "SparseEncoder", "tokens": "MultiVectorEncoder", "dense": "SentenceTransformer"}
        return made_of(kinds[self.output()], self.source)

    def texts(self) -> list[str]:
        """Return texts; for the one that sentence-transformers never cuts, short ones."""
        return [text for text in TEXTS if len(text) < 30] if self.name == "static" else TEXTS

    def run(self, items: Sequence[Any], tower: str) -> list[NDArray[Any]]:
        with Embedder.open(self.bundle, config=COLD) as embedder:
            reply = embedder.run(Request(items=items, tower=tower, truncate=True))
        assert not reply.errors
        (result,) = reply.outputs.values()
        return rows(result)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MODELS],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    source = MODELS[request.param](folder)
    limit = 40 if request.param == "static" else None
    plan = Recipe(name="m", source=str(source), max_length=limit, gate=FEW)
    return Made(request.param, source, *build(plan, folder / "engines"))


def test_every_tower_gives_what_encode_gives(made: Made) -> None:
    original = made.original()
    for tower in made.manifest.towers:
        items: list[Any] = [Image(data) for data in images(6)] if tower == "image" else made.texts()
        with quiet():
            wanted = [encoded(original, tower, item) for item in items]
        for mine, theirs in zip(made.run(items, tower), wanted, strict=True):
            assert mine.shape == theirs.shape
            assert cosines(np.atleast_2d(mine), np.atleast_2d(theirs)).min() >= 0.9999


def encoded(original: Any, tower: str, item: Any) -> NDArray[np.float32]:
    """Return what sentence-transformers gives for one item alone, through its function for the task."""
    if tower == "image":
        return np.asarray(original.encode(picture(item)))
    if type(original[0]).__name__ == "CLIPModel":  # whose processor would cut at the 8 tokens of the stand-in's words
        return np.asarray(original.encode(item, processing_kwargs={"text": {"max_length": 40}}))
    encode = {"query": original.encode_query, "document": original.encode_document}.get(tower, original.encode)
    sparse = type(original).__name__ == "SparseEncoder"
    found = encode(item, **({"convert_to_sparse_tensor": False} if sparse else {}))
    return np.asarray(found if isinstance(found, np.ndarray) else found.numpy())


def test_towers_share_one_space(made: Made) -> None:
    (space,) = made.manifest.spaces.values()
    assert {output.space for tower in made.manifest.towers.values() for output in tower.outputs.values()} == {space.id}  # type: ignore[union-attr]
    assert space.metric == {"sparse": "sparse_dot", "tokens": "max_sim", "dense": "cosine"}[made.output()]


@pytest.mark.slow  # it is built for this alone
def test_vectors_of_routes_are_cut_as_trained(tmp_path: Path) -> None:
    source = texts.router(tmp_path)
    path, _ = build(Recipe(name="m", source=str(source), dims=(8, 16), gate=FEW), tmp_path / "engines")
    with Embedder.open(path, config=COLD) as embedder, quiet():
        ours = embedder.embed(TEXTS[:6], tower="query", dim=8, truncate=True)
        original = made_of("SentenceTransformer", source)
        theirs = original.encode_query(TEXTS[:6], truncate_dim=8, normalize_embeddings=True)
        with pytest.raises(InvalidInput, match="8, 16"):
            embedder.embed(TEXTS[:1], tower="query", dim=9)
    assert cosines(ours, theirs).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_routes_have_prompts_of_their_own(tmp_path: Path) -> None:
    towers = loaded(texts.router(tmp_path)).towers
    assert {name: prompt(tower) for name, tower in towers.items()} == {"query": "query", "document": "document"}
    assert [tower.parts["text"].prepare.max_length for tower in towers.values()] == [20, 40]


def prompt(tower: Any) -> str | None:
    found: str | None = tower.parts["text"].prepare.default_prompt
    return found


def test_a_late_interaction_model_is_one_graph(tmp_path: Path) -> None:
    towers = loaded(texts.colbert(tmp_path / "a")).towers
    assert towers["query"].graph is towers["document"].graph
    query, document = (towers[name].parts["text"].prepare for name in ("query", "document"))
    assert (query.fixed_length, query.max_length, document.max_length) == (True, 16, 40)  # type: ignore[union-attr]
    assert [tower.outputs["tokens"].keep for tower in towers.values()] == ["keep_document", None]  # type: ignore[union-attr]


def test_queries_of_no_fixed_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"query_expansion strategy 'min'.* save the model with 'fixed'"):
        loaded(texts.colbert(tmp_path, strategy="min"))


def test_weights_of_words_are_not_normalised(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="sparse weights cannot be normalized"):
        loaded(texts.splade(tmp_path), normalize=True)


def test_the_same_weights_are_the_same_space(tmp_path: Path) -> None:
    source = texts.router(tmp_path)
    (one,), (other,) = (
        loaded(source, **said).spaces.values() for said in ({}, {"max_length": 12, "prompts": {"new": "n: "}})
    )
    assert space_id(one) == space_id(other)
    weights = next(source.rglob("query_0_Transformer/model.safetensors"))
    weights.write_bytes(next(source.rglob("document_0_Transformer/model.safetensors")).read_bytes())
    (third,) = loaded(source).spaces.values()
    assert space_id(third) != space_id(one)


def test_kinds_and_routes_that_are_unknown_are_refused(tmp_path: Path) -> None:
    source = texts.router(tmp_path)
    router = source / "router_config.json"
    routes = router if router.is_file() else next(source.rglob("router_config.json"))
    config = json.loads(routes.read_text())
    said = {"route_mappings": {"('query', 'text')": "query"}}
    routes.write_text(json.dumps({**config, "parameters": {**config["parameters"], **said}}))
    with pytest.raises(ExportError, match="route_mappings"):
        loaded(source)
    routes.write_text(json.dumps({**config, "types": {**config["types"], "query_0_Transformer": "mine.Module"}}))
    with pytest.raises(ExportError, match=r"router_config\.json: module 'mine.Module' cannot be exported"):
        loaded(source)
    routes.write_text(json.dumps(config))
    kind = source / "config_sentence_transformers.json"
    kind.write_text(json.dumps({**json.loads(kind.read_text()), "model_type": "Decoder"}))
    with pytest.raises(ExportError, match="a Decoder cannot be exported"):
        loaded(source)


ADAPTERS = {
    "plain": {},
    "norms": {"adapter_layer_norm": True, "ln_before_adapter": False, "pre_norm": True},
    "none": {"adapter_reuse_layer_norm": False, "ln_before_adapter": False},
}
SPOKEN = ("en_XX", "de_DE", "ja_XX")


@pytest.mark.parametrize("settings", ADAPTERS.values(), ids=ADAPTERS)
def test_rows_of_several_languages_are_one_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from embedge_export.sources.torch.languages import by_row

    source = encoder(tmp_path, "Xmod", words=texts.unigram(), languages=SPOKEN, **settings)
    model, words = AutoModel.from_pretrained(source).eval(), AutoTokenizer.from_pretrained(source)
    batch = words(TEXTS[:6], padding=True, truncation=True, max_length=40, return_tensors="pt")
    languages = torch.tensor([0, 1, 2, 2, 1, 0])
    with torch.no_grad(), quiet():
        ours = by_row(model)(**batch, lang_ids=languages)[0]
        theirs = model(**batch, lang_ids=languages)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_an_item_names_its_language(tmp_path: Path) -> None:
    source = encoder(tmp_path, "Xmod", words=texts.unigram(), languages=SPOKEN)
    plan = Recipe(name="m", source=str(source), pooling="mean", gate=FEW)
    path, manifest = build(plan, tmp_path / "engines")
    assert manifest.towers["text"].parts["text"].prepare.max_length == 46  # two positions are the padding's
    items = [Text(text, language=SPOKEN[place % 3]) for place, text in enumerate(TEXTS)]
    with Embedder.open(path, config=COLD) as embedder:
        ours = embedder.embed(items, truncate=True)
        for item, fault in ((TEXTS[0], "a language is needed"), (Text("a", language="fr_XX"), "'fr_XX' is unknown")):
            with pytest.raises(InvalidInput, match=fault):
                embedder.embed([item])
    assert cosines(ours, pooled(source, items, np.mean)).min() >= 0.9999


def pooled(source: Path, items: Sequence[Text], pool: Callable[..., Any]) -> NDArray[np.float32]:
    """Return pooled states of transformers' own model, a text alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    with torch.no_grad(), quiet():
        model, words = AutoModel.from_pretrained(source).eval(), AutoTokenizer.from_pretrained(source)
        found = []
        for item in items:
            extra = {} if item.language is None else {"lang_ids": torch.tensor([SPOKEN.index(item.language)])}
            batch = words(item.text, truncation=True, max_length=46, return_tensors="pt")
            found.append(pool(model(**batch, **extra)[0][0].numpy(), axis=0))
    return np.stack(found)


def last(states: NDArray[Any], axis: int) -> NDArray[Any]:
    return states.take(-1, axis)


PLAIN: dict[str, tuple[dict[str, Any], str, Any]] = {
    "XLMRoberta": ({}, "mean", np.mean),
    "ModernBert": ({"global_attn_every_n_layers": 2, "local_attention": 16}, "lasttoken", last),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_encoders_of_a_unigram_tokenizer(kind: str, tmp_path: Path) -> None:
    settings, mode, pool = PLAIN[kind]
    source = encoder(tmp_path, kind, words=texts.unigram(), **settings)
    plan = Recipe(name="m", source=str(source), pooling=mode, max_length=46, gate=FEW)  # type: ignore[arg-type]
    path, _ = build(plan, tmp_path / "engines")
    with Embedder.open(path, config=COLD) as embedder:
        ours = embedder.embed(TEXTS, truncate=True)
    assert cosines(ours, pooled(source, [Text(text) for text in TEXTS], pool)).min() >= 0.9999


def loaded(source: Path, **said: Any) -> sources.SourceModel:
    return sources.load(source, Recipe(name="m", source=str(source), **said))


def made_of(kind: str, source: Path) -> Any:
    import sentence_transformers

    with quiet():
        return getattr(sentence_transformers, kind)(str(source), device="cpu")
