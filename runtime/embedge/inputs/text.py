"""Text to token ids, a whole chunk of items at once in the tokenizer's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedge.errors import BundleError, EmbedgeError, InvalidInput, NotFound
from embedge.manifest import TextPrepare

__all__ = ["TextInput"]

Row = dict[str, NDArray[np.generic]]


class TextInput:
    """Prepares the texts of one part. Safe to call from several threads."""

    def __init__(self, spec: TextPrepare, tokenizer: Path, *, max_bytes: int) -> None:
        self.spec = spec
        self.max_bytes = max_bytes
        # Truncation is a setting of the tokenizer object, so there is one for each answer, and threads share both.
        self._whole = _load(tokenizer)
        self._cut = _load(tokenizer)
        self._cut.enable_truncation(spec.max_length)

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
        good = [index for index, fault in enumerate(results) if fault is None]
        ready = [self._clean(prefix, texts[index]) for index in good]
        tokenizer = self._cut if truncate else self._whole
        for index, encoding in zip(good, tokenizer.encode_batch_fast(ready), strict=True):
            results[index] = self._row(encoding.ids, encoding.type_ids if "types" in self.spec.inputs else None)
        return [result for result in results if result is not None]

    def _clean(self, prefix: str, text: object) -> str:
        joined = prefix + str(text)
        return joined.lower() if self.spec.lowercase else joined

    def _fault(self, text: object) -> EmbedgeError | None:
        if not isinstance(text, str):
            return InvalidInput(f"a text is needed here, not {type(text).__name__}")
        if not self.spec.allow_empty and not text.strip():
            return InvalidInput("the text is empty; leave it out, or send some text")
        if len(text) > self.max_bytes or len(text) * 4 > self.max_bytes < len(text.encode("utf-8", "surrogatepass")):
            return InvalidInput(
                f"the text has more than {self.max_bytes:,} bytes, the server's limit (max_text_bytes); split it"
            )
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            return InvalidInput("the text holds lone surrogates and is not valid Unicode; decode it as UTF-8 first")
        return None

    def _row(self, ids: list[int], types: list[int] | None) -> Row | EmbedgeError:
        if not ids:
            return InvalidInput("the text has no tokens; send some text")
        if len(ids) > self.spec.max_length:
            return InvalidInput(
                f"the text has {len(ids):,} tokens, the model's limit is {self.spec.max_length:,}; "
                "split it, or allow cutting it with truncate=True"
            )
        row: Row = {self.spec.inputs["ids"]: np.array(ids, dtype=np.int64)}
        if types is not None:
            row[self.spec.inputs["types"]] = np.array(types, dtype=np.int64)
        return row


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise BundleError(f"{path}: the tokenizer cannot be read: {error}; export the bundle again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
