"""Long texts: only what is needed of them is tokenised, and the tokens are those of the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from embedge.batches.batch import Layout, pad
from embedge.bundle.part_specs import TextPrepare
from embedge.config import RuntimeConfig
from embedge.content import Text
from embedge.errors import BundleError, EmbedgeError, InvalidInput
from embedge.inputs.text import TextInput
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
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def _bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
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
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=ends
    )
    return tokenizer


@pytest.fixture(scope="module", params=[_wordpiece, _bytes, _unigram], ids=["wordpiece", "bytes", "unigram"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    request.param().save(str(path))
    return path


def prepared(file: Path, max_length: int = 16, **options: Any) -> TextInput:
    inputs = {"ids": "ids", "types": "types", **options.pop("inputs", {})}
    spec = TextPrepare(tokenizer=file.name, max_length=max_length, inputs=inputs, **options)
    return TextInput(spec, RuntimeConfig(max_text_bytes=2 * MEGABYTE), lambda name: file.with_name(name))


def ids(text: TextInput, content: str | Text, request: Request = WHOLE) -> list[int]:
    (row,) = text.prepare([content], request)
    assert not isinstance(row, EmbedgeError), row
    return [int(each) for each in np.asarray(row["ids"])]


class Recorder:
    """Notes how many characters the real tokenizer is given."""

    def __init__(self, text: TextInput) -> None:
        self.real, self.chars = text._tokenizer, 0
        text._tokenizer = self  # type: ignore[assignment]  # it stands in for the tokenizer

    def encode_batch_fast(self, texts: Sequence[str], **options: Any) -> Any:
        self.chars += sum(map(len, texts))
        return self.real.encode_batch_fast(texts, **options)

    def post_process(self, *pair: Any) -> Any:
        return self.real.post_process(*pair)


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


@pytest.mark.parametrize("max_length", [15, 16, 300])
def test_a_pair_has_the_tokens_that_the_tokenizer_gives_it(file: Path, max_length: int) -> None:
    text, whole = prepared(file, max_length, pairs=True), Tokenizer.from_file(str(file))
    free = Tokenizer.from_file(str(file))
    whole.enable_truncation(max_length)
    draw = np.random.default_rng(max_length)
    pairs = [
        Text(_random(draw, int(a)) + ".", pair=_random(draw, int(b)) + ".") for a, b in draw.integers(8, 900, (60, 2))
    ]

    cut, kept = text.prepare(pairs, CUT), text.prepare(pairs, WHOLE)

    for pair, row, same in zip(pairs, cut, kept, strict=True):
        encoding = whole.encode(pair.text, pair.pair)
        assert isinstance(row, dict)
        np.testing.assert_array_equal(row["ids"], encoding.ids)
        np.testing.assert_array_equal(row["types"], encoding.type_ids)
        count = len(free.encode(pair.text, pair.pair).ids)
        assert isinstance(same, InvalidInput) == (count > max_length)


def test_little_of_a_pair_of_megabytes_is_tokenised(file: Path) -> None:
    text = prepared(file, pairs=True)
    recorder = Recorder(text)
    giant = "cat " * (MEGABYTE // 4)

    (row,) = text.prepare([Text(giant, pair=giant)], CUT)

    assert isinstance(row, dict)
    assert len(row["ids"]) == 16
    assert recorder.chars < 40_000


def test_pairs_and_plain_texts_keep_their_order(file: Path) -> None:
    text = prepared(file, 64, pairs=True)
    contents = ["a cat", Text("a dog", pair="a bird"), "", Text("the sky"), Text("a", pair=" "), Text("x", pair="y")]

    rows = text.prepare(contents, WHOLE)

    assert [isinstance(row, InvalidInput) for row in rows] == [False, False, True, False, True, False]
    for content, row in zip(contents, rows, strict=True):
        if isinstance(row, dict):
            assert list(row["ids"]) == ids(text, content)


def test_an_instruction_stands_in_place_of_the_prompt(file: Path) -> None:
    text = prepared(
        file, 64, instruction="Do {instruction}: ", prompts={"query": "query: "}, default_prompt="query", lowercase=True
    )
    plain = prepared(file, 64)

    assert ids(text, "The Cat") == ids(plain, "query: the cat")
    assert ids(text, Text("The Cat")) == ids(plain, "query: the cat")
    assert ids(text, Text("The Cat", instruction="Find")) == ids(plain, "do find: the cat")


def test_a_language_has_its_number(file: Path) -> None:
    options: dict[str, Any] = {"inputs": {"language": "lang"}, "languages": {"de": 3, "en": 7}}
    strict, lenient = prepared(file, **options), prepared(file, **options, default_language="en")

    rows = lenient.prepare([Text("a cat", language="de"), "a cat", Text("a cat", language="fr")], WHOLE)
    (without,) = strict.prepare(["a cat"], WHOLE)

    assert isinstance(rows[0], dict)
    assert isinstance(rows[1], dict)
    assert (rows[0]["lang"], rows[0]["lang"].shape, rows[0]["lang"].dtype) == (3, (), np.int64)
    assert rows[1]["lang"] == 7
    assert str(rows[2]) == "language 'fr' is unknown; this model has: de, en"
    assert str(without) == "a language is needed: de, en"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (Text("a", pair="b"), "this model takes no pairs of texts"),
        (Text("a", instruction="b"), "this model takes no instruction"),
        (Text("a", language="de"), "this model takes no language"),
        (Text(3), "a text is needed here, not int"),  # type: ignore[arg-type]
        (b"a", "a text is needed here, not bytes"),
    ],
)
def test_what_a_model_does_not_take_is_refused(file: Path, content: Any, told: str) -> None:
    good, bad = prepared(file).prepare(["a cat", content], WHOLE)

    assert isinstance(good, dict)
    assert isinstance(bad, InvalidInput)
    assert told in str(bad)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_fixed_length_pads_every_batch_to_the_limit(file: Path, side: Any) -> None:
    text = prepared(file, 24, fixed_length=True, padding_side=side, pad_id=9, inputs={"mask": "mask"})
    rows = [row for row in text.prepare(["a cat", "the dog sings"], WHOLE) if isinstance(row, dict)]
    form = Layout({"ids": "int64", "types": "int64", "mask": "int64"}, text.spec.fills())

    arrays = pad(rows, form)

    assert [text.size(row) for row in rows] == [24, 24]
    assert not form.varies
    for place, row in enumerate(rows):
        own = len(row["ids"])
        inside = slice(24 - own, None) if side == "left" else slice(own)
        expected = np.full(24, 9)
        expected[inside] = row["ids"]
        np.testing.assert_array_equal(arrays["ids"][place], expected)
        assert arrays["mask"][place].sum() == arrays["mask"][place][inside].sum() == own


def test_pairs_need_a_tokenizer_that_joins_them(tmp_path: Path) -> None:
    tokenizer = _bytes()
    tokenizer.post_processor = None  # type: ignore[assignment]  # it may be None
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match="does not say how two texts become a pair"):
        prepared(tmp_path / "tokenizer.json", pairs=True)
