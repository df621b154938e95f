"""Workloads: the same texts on every run, and a user's file taken whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge import Bundle
from embedge.errors import InvalidInput, NotFound
from embedge_bench import texts
from tests.tiny import tiny_bundle


@pytest.mark.parametrize("name", texts.NAMES)
def test_named_workloads_are_the_same_on_every_run(name: str) -> None:
    assert texts.load(name, count=50) == texts.load(name, count=50)


def test_named_workloads_have_the_lengths_they_promise() -> None:
    records = {name: texts.load(name).record() for name in texts.NAMES}
    assert records["short"].mean == pytest.approx(9, abs=1)
    assert records["mixed"].mean == pytest.approx(100, abs=10)
    assert records["long"].mean > 300
    assert records["mixed"].median < records["mixed"].mean * 2 / 3, "titles and abstracts, not texts of one length"


def test_record_says_where_texts_are_from_and_how_long(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("one\ntwo words\n\n  \nthree more words\n", encoding="utf-8")
    record = texts.load(str(file)).record()
    assert (record.name, record.texts, record.unit, record.largest) == ("mine.txt", 3, "words", 3)
    assert record.source.startswith("mine.txt (sha256 ")
    assert sum(record.sizes.counts) == 3
    assert str(tmp_path) not in record.source


def test_json_lines_are_read_by_their_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"title": "one"}\n"two"\n', encoding="utf-8")
    assert texts.load(str(file), field="title").texts == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b"\n \n", "holds no text"),
        ("latin.txt", b"fine\ncaf\xe9\n", "line 2: not valid UTF-8 at byte 3"),
        ("bad.jsonl", b'{"text": 1}\n', "line 1"),
        ("broken.jsonl", b'{"text": "a"}\n{"te\n', "line 2: not valid JSON"),
    ],
)
def test_unusable_file_is_refused_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        texts.load(str(file))
    assert name in str(caught.value)


def test_unknown_workload_lists_the_known_ones() -> None:
    with pytest.raises(NotFound, match="short, mixed, long"):
        texts.load("shrot")


def test_sizes_in_tokens_are_the_models_own(tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_bundle(tmp_path / "tiny"))
    file = tmp_path / "mine.txt"
    file.write_text("a cat\n" + "cat " * 100, encoding="utf-8")
    measured = texts.load(str(file)).measured(bundle)
    assert (measured.sizes, measured.record().unit) == ((4, 32), "tokens")
