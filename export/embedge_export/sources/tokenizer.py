"""The tokenizer.json that a bundle ships: the original's own, as it really tokenises, without padding or truncation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embedge_export.errors import ExportError

__all__ = ["NO_LIMIT", "bare", "from_transformers", "has_types"]

# transformers writes a huge number where a tokenizer knows no limit.
NO_LIMIT = 1_000_000


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


def bare(text: str, where: Path) -> str:
    """Return a tokenizer.json without its padding and truncation: the runtime sets its own. Raises ExportError."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ExportError(f"{where}: the tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return str(tokenizer.to_str())


def has_types(text: str) -> bool:
    """Return whether a single text gets token types other than 0."""
    return any(Tokenizer.from_str(text).encode("a short text").type_ids)
