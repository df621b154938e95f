"""Text to token ids, a whole chunk of items at once in the tokenizer's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.models import Unigram

from embedge.errors import BundleError, EmbedgeError, InvalidInput, NotFound
from embedge.prepare import TextPrepare

__all__ = ["TextInput"]

Row = dict[str, NDArray[np.generic]]

# Characters of a text that are looked at first: at least so many, or so many for each token that the model takes.
_FIRST = 4096
_CHARS_A_TOKEN = 16
# Tokens at the end of a cut text that may be others than in the whole one: words there may have lost their end.
_EDGE = 128


class TextInput:
    """Prepares the texts of one part. Safe to call from several threads.

    Of a long text only so much is tokenised as it takes to know the tokens that are kept, or that there are too many.
    """

    def __init__(self, spec: TextPrepare, tokenizer: Path, *, max_bytes: int) -> None:
        self.spec = spec
        self.max_bytes = max_bytes
        self._tokenizer = _load(tokenizer)
        # Always on: what it cuts off is still counted, and who does not allow cutting gets an error from the count.
        self._tokenizer.enable_truncation(spec.max_length)
        self._specials = self._tokenizer.num_special_tokens_to_add(False)
        # WordPiece turns a word beyond this size into one token; half of it is at most so many.
        self._edge = max(_EDGE, getattr(self._tokenizer.model, "max_input_chars_per_word", 0))
        # A unigram model weighs a word as a whole, so how a giant one ends can change how it begins.
        self._between_words = isinstance(self._tokenizer.model, Unigram)

    def prefix(self, prompt: str | None) -> str:
        """Return the text that the named prompt puts before each item. Raises NotFound."""
        name = self.spec.default_prompt if prompt is None else prompt
        if not name:
            return ""
        if name not in self.spec.prompts:
            known = ", ".join(sorted(self.spec.prompts)) or "none"
            raise NotFound(f"prompt {name!r} is unknown; this model has: {known}")
        return self.spec.prompts[name]

    def prepare(self, texts: Sequence[object], *, prefix: str = "", truncate: bool = False) -> list[Row | EmbedgeError]:
        """Return for each text its arrays (int64, one per graph input but the mask), or the error that it has."""
        results: list[Row | EmbedgeError | None] = [self._fault(text) for text in texts]
        left = {index: self._clean(prefix, texts[index]) for index, fault in enumerate(results) if fault is None}
        size = max(_FIRST, _CHARS_A_TOKEN * self.spec.max_length)
        while left:
            heads = {index: _head(text, size, between_words=self._between_words) for index, text in left.items()}
            encodings = self._tokenizer.encode_batch_fast(list(heads.values()))
            for (index, head), encoding in zip(heads.items(), encodings, strict=True):
                whole = len(head) == len(left[index])
                count = self._count(encoding)
                if whole or count > self.spec.max_length + self._edge:
                    results[index] = self._row(encoding, count if whole else None, truncate)
                    del left[index]
            size *= 2
        return [result for result in results if result is not None]

    def _count(self, encoding: Encoding) -> int:
        """Return how many tokens there were before truncation, specials included."""
        return len(encoding.ids) + sum(len(rest.ids) - self._specials for rest in encoding.overflowing)

    def _clean(self, prefix: str, text: object) -> str:
        joined = prefix + str(text)
        return joined.lower() if self.spec.lowercase else joined

    def _fault(self, text: object) -> EmbedgeError | None:
        if not isinstance(text, str):
            return InvalidInput(f"a text is needed here, not {type(text).__name__}")
        if not self.spec.allow_empty and not text.strip():
            return InvalidInput("the text is empty; leave it out, or send some text")
        try:  # the first look, at characters, keeps the largest from being copied
            too_long = len(text) > self.max_bytes or len(text.encode()) > self.max_bytes
        except UnicodeEncodeError:
            return InvalidInput("the text holds lone surrogates and is not valid Unicode; decode it as UTF-8 first")
        if too_long:
            return InvalidInput(
                f"the text has more than {self.max_bytes:,} bytes, the server's limit (max_text_bytes); split it"
            )
        return None

    def _row(self, encoding: Encoding, count: int | None, truncate: bool) -> Row | EmbedgeError:
        """Return the row of an encoding, which had `count` tokens (None: too many to count) before truncation."""
        limit = self.spec.max_length
        if count == 0:
            return InvalidInput("the text has no tokens; send some text")
        too_many = count is None or count > limit
        if len(encoding.ids) > limit or (too_many and not truncate):
            found = f"more than {limit:,}" if count is None else f"{count:,}"
            return InvalidInput(
                f"the text has {found} tokens, the model's limit is {limit:,}; "
                "split it, or allow cutting it with truncate=True"
            )
        row: Row = {self.spec.inputs["ids"]: np.array(encoding.ids, dtype=np.int64)}
        if "types" in self.spec.inputs:
            row[self.spec.inputs["types"]] = np.array(encoding.type_ids, dtype=np.int64)
        return row


def _head(text: str, size: int, *, between_words: bool) -> str:
    """Return the text's first `size` characters, or fewer, up to a space: the last, if it is near or must be one."""
    if len(text) <= size:
        return text
    words = text[:size].rpartition(" ")[0]
    return words if between_words or len(words) > size // 2 else text[:size]


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise BundleError(f"{path}: the tokenizer cannot be read: {error}; export the bundle again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
