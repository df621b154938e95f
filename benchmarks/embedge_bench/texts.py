"""Texts to send: named length distributions made of Python's own documentation, or a user's file.

The named ones need no network and are identical for a given Python version; compare the digest in their source line
between machines.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from embedge.bundle import Bundle
from embedge.errors import EmbedgeError, InvalidInput, NotFound
from embedge.request import Request
from embedge_bench.results import Histogram, Workload

__all__ = ["NAMES", "Texts", "load"]

_SEED = 20240229
_BINS = 16
_JSON = (".jsonl", ".ndjson", ".json")

# Words of an abstract, and of a long text: most models of this kind are cut at 256 or 512 tokens.
_ABSTRACT = (60, 320)
_LONG = (300, 600)


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a workload and the size of each, in `unit`."""

    name: str
    source: str
    texts: tuple[str, ...]
    sizes: tuple[int, ...]
    unit: Literal["tokens", "words"] = "words"

    def record(self) -> Workload:
        """Return the workload's record for a report."""
        sizes = np.asarray(self.sizes)
        counts, edges = np.histogram(sizes, bins=_BINS)
        return Workload(
            name=self.name,
            source=self.source,
            texts=len(self.texts),
            unit=self.unit,
            mean=float(sizes.mean()),
            median=float(np.median(sizes)),
            largest=int(sizes.max()),
            short_size=int(np.quantile(sizes, 0.25, method="higher")),
            sizes=Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),
        )

    def measured(self, bundle: Bundle) -> Texts:
        """Return the same with sizes in tokens of the bundle's model: cut to its limit, specials included."""
        from embedge.config import RuntimeConfig
        from embedge.inputs.items import ItemInput

        inputs = ItemInput.of(bundle, next(iter(bundle.manifest.towers)), RuntimeConfig(max_text_bytes=1 << 30))
        rows = inputs.prepare(self.texts, Request(items=(), truncate=True))
        sizes = [0 if isinstance(row, EmbedgeError) else inputs.length(row) for row in rows]
        return replace(self, sizes=tuple(sizes), unit="tokens")


def load(name: str, *, count: int = 512, field: str = "text") -> Texts:
    """Return a named workload, or the texts of a file.

    Args:
        count: The number of texts of a named workload.
        field: The key of the text in JSON lines.

    Raises:
        NotFound: Neither a workload nor a file has this name.
        InvalidInput: The file can't be read as texts.
    """
    if name in _MAKERS:
        texts = _MAKERS[name](random.Random(f"{_SEED} {name}"), count)  # reproducible, not secret
        return _texts(name, "Python's own documentation", texts)
    path = Path(name)
    if not path.is_file():
        raise NotFound(f"workload {name!r} is neither a file nor one of: {', '.join(NAMES)}")
    return _texts(path.name, path.name, list(_read(path, field)))


def _texts(name: str, source: str, texts: Sequence[str]) -> Texts:
    if not texts:
        raise InvalidInput(f"workload {name!r} holds no text; give it at least one line that is not blank")
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    return Texts(name, f"{source} (sha256 {digest})", tuple(texts), tuple(len(text.split()) for text in texts))


def _read(path: Path, field: str) -> Iterator[str]:
    """Yield the texts of a file: one a line, or JSON lines by the file's ending. Blank lines are passed over."""
    from embedge.commands.embed.lines import chunks

    json_field = field if path.suffix in _JSON else None
    with path.open("rb") as file:
        for chunk in chunks(file, 1024, json_field=json_field):
            for line in chunk.lines:
                if line.fault and (json_field is None or not chunk.raw.isspace()):
                    raise InvalidInput(f"{path}: line {line.number}: {line.fault}; mend the line or take it out")
                if line.text.strip():
                    yield line.text


def _short(dice: random.Random, count: int) -> list[str]:
    words = _words()
    return [_cut(dice, words, round(dice.gauss(9, 2.5)), least=3) for _ in range(count)]


def _long(dice: random.Random, count: int) -> list[str]:
    words = _words()
    return [_cut(dice, words, dice.randint(*_LONG)) for _ in range(count)]


def _mixed(dice: random.Random, count: int) -> list[str]:
    words = _words()
    abstracts = [_cut(dice, words, dice.randint(*_ABSTRACT)) for _ in range(count // 2)]
    texts = _short(dice, count - len(abstracts)) + abstracts
    dice.shuffle(texts)
    return texts


_MAKERS: dict[str, Callable[[random.Random, int], list[str]]] = {"short": _short, "mixed": _mixed, "long": _long}
NAMES = tuple(_MAKERS)
"""Titles of about 9 words; titles and abstracts shuffled, about 100 words on average; long texts."""


def _cut(dice: random.Random, words: list[str], size: int, *, least: int = 1) -> str:
    size = max(least, size)
    start = dice.randrange(len(words) - size)
    return " ".join(words[start : start + size])


def _words() -> list[str]:
    """Return the prose of Python's language reference, shipped with every interpreter for `help()`."""
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics))
    return re.findall(r"[A-Za-z][\w'-]*[.,;:!?]?", text)
