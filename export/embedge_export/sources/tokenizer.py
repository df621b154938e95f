"""The tokenizer.json that a bundle ships: the original's own, as it really tokenises, without padding or truncation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embedge_export.errors import ExportError

__all__ = ["NO_LIMIT", "bare", "check", "from_transformers", "has_types", "known_share", "need_vocabulary"]

# transformers writes a huge number where a tokenizer knows no limit.
NO_LIMIT = 1_000_000

_VOCABULARIES = ("tokenizer.json", "tekken.json", "vocab*", "*.model", "*.tiktoken", "*.bpe")


def need_vocabulary(directory: Path) -> None:
    """Raise ExportError if no file holds a vocabulary: transformers would invent one of a few tokens."""
    if not any(any(directory.glob(pattern)) for pattern in _VOCABULARIES):
        raise ExportError(
            f"{directory}: holds no tokenizer ({', '.join(_VOCABULARIES)}); put the files of the model's own beside it"
        )


def check(text: str, where: Path, *, max_length: int, table: int = 0) -> None:
    """Raise ExportError for a tokenizer that does not go with the model.

    max_length: most tokens of a text. table: rows of the token embeddings, where they are known.
    """
    tokenizer = Tokenizer.from_str(text)
    specials, size = tokenizer.num_special_tokens_to_add(False), tokenizer.get_vocab_size()
    if max_length <= specials:
        raise ExportError(
            f"{where}: max_length {max_length} leaves no room for text, since the tokenizer adds {specials} tokens of "
            f"its own; set max_length to {specials + 1} or more"
        )
    if size * 2 < table:
        raise ExportError(
            f"{where}: the tokenizer knows {size:,} tokens, the model {table:,}; put the model's own beside it"
        )


def known_share(text: str, passages: Sequence[str]) -> float:
    """Return the share of the passages' tokens that are not the unknown token, specials left out; 0 for no tokens."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokens = [
        token for encoding in tokenizer.encode_batch(passages, add_special_tokens=False) for token in encoding.ids
    ]
    unknown = _unknown(tokenizer, json.loads(text)["model"])
    return sum(token != unknown for token in tokens) / len(tokens) if tokens else 0.0


def _unknown(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the id of the unknown token: models name the token or its id; those that work on bytes have none."""
    if model.get("unk_token") is not None:
        return tokenizer.token_to_id(model["unk_token"])
    return model.get("unk_id")


def from_transformers(tokenizer: Any, where: Path) -> str:
    """Return the JSON of a transformers tokenizer. Raises ExportError for one that `tokenizers` cannot run."""
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{where}: the tokenizer is a slow one, written in Python; save a fast one (tokenizer.json) beside it, "
            "with transformers' convert_slow_tokenizer"
        )
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise ExportError(f"{where}: the tokenizer cuts texts on the left; embedge cuts on the right only")
    return bare(tokenizer.backend_tokenizer.to_str(), where)


def bare(text: str, where: Path, *, specials: bool = True) -> str:
    """Return a tokenizer.json without its padding and truncation: the runtime sets its own. Raises ExportError.

    specials: whether it adds tokens of its own, if it does.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ExportError(f"{where}: the tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if not specials:
        tokenizer.post_processor = None
    return str(tokenizer.to_str())


def has_types(text: str, *, pair: bool = False) -> bool:
    """Return whether a single text, or a pair of them, gets token types other than 0."""
    return any(Tokenizer.from_str(text).encode("a short text", "and another" if pair else None).type_ids)
