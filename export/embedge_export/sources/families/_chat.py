"""Chat templates: every text becomes a user's message, with the same tokens before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer, processors
from torch import Tensor

from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge_export.errors import ExportError
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import text_input
from embedge_export.sources.text import TOKENIZER, whole

__all__ = ["Chat", "chat_of"]

_PROMPT = "chat"
_PLACE = "{text}"
_BEFORE, _AFTER = "[before]", "[after]"


@dataclass(frozen=True)
class Chat:
    """Preparation of texts in a chat template. The prompt holds the part before a text; the tokenizer adds the rest.

    Attributes:
        prepare: The runtime's preparation.
        tokenizer: The original's own tokenizer.
        after: The template's part after a text.
        ending: Number of tokens that close a text.
    """

    prepare: TextPrepare
    files: Mapping[str, bytes]
    tokenizer: Any
    after: str
    ending: int

    def read(self, content: str | Text) -> Mapping[str, Tensor]:
        """Return the tokens (1, length) of one text, by the original's tokenizer; a cut text keeps its ending."""
        ids = self.tokenizer(whole(self.prepare, content) + self.after, truncation=False)["input_ids"]
        end = len(ids) - self.ending
        kept = torch.tensor([ids[: min(end, self.prepare.max_length - self.ending)] + ids[end:]])
        return {"input_ids": kept, "attention_mask": torch.ones_like(kept)}


def chat_of(path: Path, recipe: Recipe, tokenizer: Any, config: Any, *, tower: str, image: bool = False) -> Chat:
    """Return the preparation of a tower's texts.

    Args:
        path: The model's directory.
        recipe: Names prompts, instruction and max_length.
        tokenizer: The original's tokenizer, with its chat template.
        config: The language model's config.
        tower: The tower's name.
        image: Put an image before each text, as one token.

    Raises:
        ExportError: The tokenizer or its template is not supported.
    """
    before, after = _around(tokenizer, image=image)
    plain, files = text_input(
        path,
        tokenizer,
        recipe,
        inputs={"ids": "input_ids", "mask": "attention_mask"},
        limit=config.max_position_embeddings,
        table=config.vocab_size,
        tower=tower,
        padding_side=tokenizer.padding_side,
        instruction=recipe.of(tower).instruction,
        allow_empty=bool(before + after),
    )
    prepare = msgspec.structs.replace(
        plain,
        prompts={_PROMPT: before, **{name: before + prompt for name, prompt in plain.prompts.items()}},
        default_prompt=plain.default_prompt or _PROMPT,
        instruction=None if plain.instruction is None else before + plain.instruction,
    )
    bare = Tokenizer.from_str(files[TOKENIZER].decode())
    ending = _close(bare, tokenizer, after)
    return Chat(prepare, {TOKENIZER: bare.to_str().encode()}, tokenizer, after, ending)


def _around(tokenizer: Any, *, image: bool) -> tuple[str, str]:
    """Return the template's parts before and after a user's text, with an image before it or without."""
    if not tokenizer.chat_template:
        return ("<|vision_start|><|image_pad|><|vision_end|>" if image else ""), ""
    content = [*([{"type": "image"}] if image else []), {"type": "text", "text": _PLACE}]
    message = [{"role": "user", "content": content}]
    whole = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    before, place, after = whole.partition(_PLACE)
    if not place:
        raise ExportError("the chat template leaves out the user's text; correct or remove it")
    return before, after


def _close(bare: Tokenizer, tokenizer: Any, after: str) -> int:
    """Make a tokenizer add `after` to every text, before its own special tokens; return the number of all these tokens.

    Raises ExportError if the text's last word could merge with `after`.
    """
    text, whole = (bare.encode("a", add_special_tokens=special).ids for special in (False, True))
    first = next(place for place in range(len(whole)) if whole[place : place + len(text)] == text)
    behind = tokenizer(after, add_special_tokens=False, truncation=False)["input_ids"] if after else []
    if behind and behind[0] not in tokenizer.all_special_ids:
        raise ExportError(
            "the chat template does not end a text with a special token, so the last word could merge with what follows"
        )
    around = {_BEFORE: whole[:first], _AFTER: behind + whole[first + len(text) :]}
    named = [
        {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in around.items() if ids
    ]
    single = [*([_BEFORE] if around[_BEFORE] else []), "$A", *([_AFTER] if around[_AFTER] else [])]
    bare.post_processor = processors.TemplateProcessing(single=" ".join(single), special_tokens=named)
    return len(around[_AFTER])
