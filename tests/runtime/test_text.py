"""Long texts: only what is needed of them is tokenised, and the tokens are those of the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from embedge.config import RuntimeConfig
from embedge.errors import InvalidInput
from embedge.inputs.text import TextInput
from embedge.prepare import TextPrepare
from embedge.request import Request
from tests.tiny import WORDS

MEGABYTE = 1 << 20
CUT, WHOLE = Request(items=(), truncate=True), Request(items=())
_ALPHABETS = ("ab c", "the cat sleeps, sings: and falls. ", "日本語 é🙂\u0301", "a", "a \n\t\u2003", "x-y_z'", "中")


def _corpus() -> list[str]:
    draw = np.random.default_rng(0)
    return [_random(draw, 400) for _ in range(60)]


def _random(draw: np.random.Generator, size: int) -> str:
    """Return about `size` characters in stretches of one alphabet each: words, scripts without spaces, giant words."""
    text = ""
    while len(text) < size:
        if draw.random() < 0.5:
            text += " ".join(draw.choice(WORDS, draw.integers(1, size // 4)))
        else:
            alphabet = list(_ALPHABETS[draw.integers(len(_ALPHABETS))])
            text += "".join(draw.choice(alphabet, draw.integers(1, size)))
    return text


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(_corpus(), trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials))
    ends = [(name, tokenizer.token_to_id(name)) for name in specials[1:]]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def _bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(_corpus(), trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "</s>"], unk_token="<unk>")
    tokenizer.train_from_iterator(_corpus(), trainer)
    ends = [("</s>", tokenizer.token_to_id("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=ends)
    return tokenizer


@pytest.fixture(scope="module", params=[_wordpiece, _bytes, _unigram], ids=["wordpiece", "bytes", "unigram"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    request.param().save(str(path))
    return path


def prepared(file: Path, max_length: int = 16) -> TextInput:
    spec = TextPrepare(tokenizer=file.name, max_length=max_length, inputs={"ids": "ids", "types": "types"})
    return TextInput(spec, RuntimeConfig(max_text_bytes=2 * MEGABYTE), lambda name: file.with_name(name))


class Recorder:
    """Notes how many characters the real tokenizer is given."""

    def __init__(self, text: TextInput) -> None:
        self.real, self.chars = text._tokenizer, 0
        text._tokenizer = self  # type: ignore[assignment]  # it stands in for the tokenizer

    def encode_batch_fast(self, texts: Sequence[str], **options: Any) -> Any:
        self.chars += sum(map(len, texts))
        return self.real.encode_batch_fast(texts, **options)


@pytest.mark.parametrize("max_length", [8, 16, 300])
def test_a_cut_text_has_the_tokens_of_the_whole_one(file: Path, max_length: int) -> None:
    text = prepared(file, max_length)
    whole = Tokenizer.from_file(str(file))
    whole.enable_truncation(max_length)
    draw = np.random.default_rng(max_length)
    texts = [_random(draw, int(size)) + "." for size in draw.integers(10, 20_000, 25)]

    rows = text.prepare(texts, CUT)

    for row, encoding in zip(rows, whole.encode_batch(texts), strict=True):
        assert isinstance(row, dict)
        np.testing.assert_array_equal(row["ids"], encoding.ids)
        np.testing.assert_array_equal(row["types"], encoding.type_ids)


def test_a_text_is_refused_exactly_if_it_has_too_many_tokens(file: Path) -> None:
    limit = 40
    text, whole = prepared(file, limit), Tokenizer.from_file(str(file))
    draw = np.random.default_rng(1)
    texts = [_random(draw, int(size)) + "." for size in draw.integers(10, 12_000, 25)]
    texts += [" " * spaces + "a cat" + "\n" * spaces for spaces in (10, 5_000, 50_000)]

    rows = text.prepare(texts, WHOLE)

    counts = [len(encoding.ids) for encoding in whole.encode_batch(texts)]
    for row, count in zip(rows, counts, strict=True):
        assert isinstance(row, InvalidInput) == (count > limit)
        if isinstance(row, dict):
            assert len(row["ids"]) == count
        else:
            assert f"{count:,} tokens" in str(row) or "more than 40 tokens" in str(row)


@pytest.mark.parametrize("truncate", [True, False])
def test_little_of_a_megabyte_is_tokenised(file: Path, truncate: bool) -> None:
    text = prepared(file)
    recorder = Recorder(text)

    (row,) = text.prepare(["cat " * (MEGABYTE // 4)], Request(items=(), truncate=truncate))

    assert isinstance(row, dict) == truncate
    assert recorder.chars < 20_000
