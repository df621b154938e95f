"""The stand-ins: which small model proves which pattern of use, and how each is made. docs/models.md shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedge_export import recipe
from embedge_export.recipe import Gate, Recipe, TowerRecipe
from tests.export import models, texts, towers
from tests.export import test_families_audio as audio
from tests.export import test_families_fused as fused
from tests.export import test_families_llm as llm
from tests.export import test_families_pairs as pairs
from tests.export.zoo import ZOO

__all__ = ["PATTERNS", "STAND_INS", "StandIn"]

PATTERNS = {
    "P1": "towers of their own in one space",
    "P2": "several parts of an item, one vector",
    "P3": "parts that may be missing",
    "P4": "a vector a token, patch or frame",
    "P5": "sparse: words or concepts",
    "P6": "bits and codes",
    "P7": "distributions; several outputs from one pass",
    "P8": "vectors that may be cut",
    "P9": "video",
    "P10": "audio",
    "P11": "arrays, tables and vectors",
    "P12": "a shared trunk",
    "P15": "labels without training",
    "P16": "sets of pieces",
    "P17": "scores of pairs",
    "P18": "language models",
    "P20": "many languages",
    "P23": "scores of classes",
}

_GATE = Gate(items=16, golden=16, known_tokens=0.7)  # the small vocabularies do not know every letter


@dataclass(frozen=True)
class StandIn:
    """A small model with random weights.

    after: what it is: a class of transformers, or the published model whose shape a module of the zoo has.
    make: saves it in a directory, and returns what the recipe calls its source; None: the zoo has its recipe.
    settings: more of the recipe. labelled: it is asked for scores of labels, too.
    """

    name: str
    patterns: tuple[str, ...]
    after: str
    make: Callable[[Path], Path] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    labelled: bool = False

    def recipe(self, folder: Path) -> Recipe:
        """Return how to build its bundle; a model that is not there yet is saved in `folder`."""
        if self.make is None:
            return recipe.load(ZOO / f"{self.name}.toml", gate=_GATE)
        return Recipe(name=self.name, source=str(self.make(folder)), gate=_GATE, **self.settings)


def _saved(make: Callable[[Path], None]) -> Callable[[Path], Path]:
    return lambda folder: audio.saved(make, folder)


def _xmod(folder: Path) -> Path:
    return models.encoder(folder, "Xmod", languages=["en_XX", "de_DE", "ja_XX"], default_language="en_XX")


def _reranker(folder: Path) -> Path:
    return pairs.classifier(folder, num_labels=1)


def _decoder(folder: Path) -> Path:
    return llm.decoder(folder, "Qwen2")


_INSTRUCTED = {"instruction": llm.TEMPLATE, "max_length": 60}
_CUT = {"tower": {"image": TowerRecipe(dims=(8, 16)), "text": TowerRecipe(dims=(8, 16))}}

STAND_INS = (
    StandIn("clip", ("P1", "P8", "P15"), "CLIPModel", towers.clip, _CUT, labelled=True),
    StandIn("siglip", ("P1", "P15"), "SiglipModel", towers.siglip, labelled=True),
    StandIn("align", ("P1",), "AlignModel", towers.align),
    StandIn("places", ("P1", "P11"), "TaxaBind"),
    StandIn("points", ("P1", "P11"), "PointNet, ULIP"),
    StandIn("vit", ("P4",), "ViTModel", towers.vit),
    StandIn("dinov2", ("P4",), "Dinov2Model", towers.dinov2),
    StandIn("colbert", ("P4",), "ColBERT: BertModel, MultiVectorEncoder", texts.colbert),
    StandIn("splade", ("P5",), "SPLADE: BertForMaskedLM, SparseEncoder", texts.splade),
    StandIn("inference_free", ("P1", "P5"), "SparseEncoder, queries looked up", texts.inference_free),
    StandIn("router", ("P1", "P8"), "BertModel twice, Router", texts.router, {"dims": (8, 16)}),
    StandIn("clip_model", ("P1",), "CLIPModel of sentence-transformers", texts.clip_model),
    StandIn("static", ("P8",), "StaticEmbedding", texts.static, {"max_length": 40, "dims": (8, 16)}),
    StandIn("flava", ("P2", "P1"), "FlavaModel", fused.flava),
    StandIn("blip", ("P17", "P1"), "BlipForImageTextRetrieval", fused.blip),
    StandIn("reranker", ("P17",), "BertForSequenceClassification, CrossEncoder", _reranker),
    StandIn("decoder", ("P18",), "Qwen2Model, last token", _decoder, _INSTRUCTED),
    StandIn("qwen2_vl", ("P18", "P2"), "Qwen2VLModel, last token", llm.qwen2_vl),
    StandIn("sorter", ("P23", "P4"), "ViTForImageClassification", fused.sorter),
    StandIn("findings", ("P2", "P11", "P23"), "TIP"),
    StandIn("subsets", ("P3", "P23"), "3MT, any of its three parts missing"),
    StandIn("modules", ("P3", "P23"), "MultiModN, scores after each part"),
    StandIn("oneencoder", ("P12", "P1"), "OneEncoder"),
    StandIn("bags", ("P16",), "PIBD, attention over patches; their mean"),
    StandIn("xpool", ("P17", "P11"), "X-Pool, stored frames"),
    StandIn("lexical", ("P5",), "SPLADE over BertForMaskedLM"),
    StandIn("concepts", ("P5", "P7"), "FDT"),
    StandIn("hashes", ("P6", "P11"), "RREH"),
    StandIn("gaussians", ("P7",), "PCME over CLIP's towers"),
    StandIn("splits", ("P7",), "SimMMDG"),
    StandIn("videomae", ("P9",), "VideoMAEModel", towers.videomae),
    StandIn("timesformer", ("P4", "P9"), "TimesformerModel", towers.timesformer),
    StandIn("xclip", ("P1", "P9"), "XCLIPModel", towers.xclip),
    StandIn("clap", ("P1", "P10"), "ClapModel", _saved(audio.clap)),
    StandIn("ast", ("P10",), "ASTModel", _saved(audio.ast)),
    StandIn("whisper", ("P10",), "WhisperModel's encoder", _saved(audio.whisper)),
    StandIn("wav2vec2", ("P10",), "Wav2Vec2Model", _saved(audio.wav2vec2)),
    StandIn("bands", ("P11",), "SatMAE"),
    StandIn("curves", ("P7", "P11"), "LC-PFN"),
    StandIn("events", ("P11",), "life2vec"),
    StandIn("monitors", ("P7", "P11"), "PatchTST"),
    StandIn("patients", ("P11",), "FT-Transformer"),
    StandIn("series", ("P11",), "mTAN"),
    StandIn("metaclip_2", ("P1", "P20"), "MetaClip2Model", towers.metaclip_2),
    StandIn("xmod", ("P20",), "XmodModel, a language an item", _xmod, {"pooling": "mean"}),
)
