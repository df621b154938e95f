"""Text to token ids, a whole chunk of items at once in the tokenizer's own threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.models import Unigram

from embedge.batches.batch import Row
from embedge.bundle.part_specs import TextPrepare
from embedge.config import RuntimeConfig
from embedge.content import Text
from embedge.errors import BundleError, EmbedgeError, InvalidInput, NotFound
from embedge.request import Request

__all__ = ["TextInput"]

# Characters of a text that are looked at first: at least so many, or so many for each token that the model takes.
_FIRST = 4096
_CHARS_A_TOKEN = 16
# Tokens at the end of a cut text that may be others than in the whole one: words there may have lost their end.
_EDGE = 128
_MANY = 1 << 40  # more tokens than any text has
_PLACE = "{instruction}"

Encoded = tuple[int, Encoding, int | None]


class TextInput:
    """Prepares the texts of one part. Safe to call from several threads.

    Of a long text only so much is tokenised as it takes to know the tokens that are kept, or that there are too many.
    """

    def __init__(self, spec: TextPrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        """Raises BundleError."""
        self.spec = spec
        self._max_bytes = config.max_text_bytes
        self._tokenizer = _load(file(spec.tokenizer))
        # Always on: what it cuts off is still counted, and who does not allow cutting gets an error from the count.
        self._tokenizer.enable_truncation(spec.max_length)
        self._lenient = "language" not in spec.inputs  # whether a plain text lacks nothing
        if spec.pairs and self._tokenizer.post_processor is None:
            raise BundleError(f"{spec.tokenizer}: the tokenizer does not say how two texts become a pair; add how")
        self._specials = self._tokenizer.num_special_tokens_to_add(False)
        self._pair_specials = self._tokenizer.num_special_tokens_to_add(True)
        # WordPiece turns a word beyond this size into one token; half of it is at most so many.
        self._edge = max(_EDGE, getattr(self._tokenizer.model, "max_input_chars_per_word", 0))
        # A unigram model weighs a word as a whole, so how a giant one ends can change how it begins.
        self._between_words = isinstance(self._tokenizer.model, Unigram)

    def check(self, request: Request) -> None:
        """Raise NotFound for an unknown prompt."""
        self._prompt(request)

    def prepare(self, contents: Sequence[Any], request: Request) -> list[Row | EmbedgeError]:
        """Return each text's arrays, int64 ids and types `(length,)` and language `()` by graph input, or its error."""
        prompt = self._prompt(request)
        results: list[Row | EmbedgeError | None] = [self._fault(content) for content in contents]
        texts = {index: self._first(contents[index], prompt) for index, fault in enumerate(results) if fault is None}
        seconds = self._seconds(contents, texts) if self.spec.pairs else {}
        firsts = {index: texts.pop(index) for index in seconds}
        for encoded in (self._encode(texts, specials=True), self._encode_pairs(firsts, seconds)):
            for index, encoding, count in encoded:
                results[index] = self._row(contents[index], encoding, count, request.truncate)
        return [result for result in results if result is not None]

    def probe(self) -> str | Text:
        """Return a word, in some language where texts need one."""
        needed = not self._lenient and self.spec.default_language is None
        return Text("probe", language=min(self.spec.languages)) if needed else "probe"

    def size(self, row: Row) -> int:
        """Return how many tokens the row has, specials included; of fixed length, with padding."""
        return self.spec.max_length if self.spec.fixed_length else len(row[self.spec.inputs["ids"]])

    def estimate(self, contents: Sequence[Any]) -> int:
        """Return about how many tokens the texts have: four bytes a token, and two specials."""
        limit = self.spec.max_length
        if self.spec.fixed_length:
            return limit * len(contents)
        known = [len(content) if isinstance(content, str) else self.weight(content) for content in contents]
        return sum(min(limit, size // 4 + 2) for size in known)

    def weight(self, content: Any) -> int:
        """Return how many characters a text has with all that belongs to it."""
        if isinstance(content, str):
            return len(content)
        strings = _strings(content) if isinstance(content, Text) else ()
        return sum(len(string) for string in strings if isinstance(string, str))

    def _prompt(self, request: Request) -> str:
        """Return the text that the named prompt puts before each item. Raises NotFound."""
        name = self.spec.default_prompt if request.prompt is None else request.prompt
        if not name:
            return ""
        if name not in self.spec.prompts:
            known = ", ".join(sorted(self.spec.prompts)) or "none"
            raise NotFound(f"prompt {name!r} is unknown; this model has: {known}")
        return self.spec.prompts[name]

    def _first(self, content: str | Text, prompt: str) -> str:
        """Return the text as it is tokenised: behind its own instruction, or else the prompt."""
        if isinstance(content, str):
            return self._clean(prompt + content)
        if content.instruction is not None and self.spec.instruction is not None:
            prompt = self.spec.instruction.replace(_PLACE, content.instruction)
        return self._clean(prompt + content.text)

    def _seconds(self, contents: Sequence[Any], good: Iterable[int]) -> dict[int, str]:
        """Return the other texts of the pairs among the good contents."""
        texts = {index: contents[index] for index in good if isinstance(contents[index], Text)}
        return {index: self._clean(text.pair) for index, text in texts.items() if text.pair is not None}

    def _clean(self, text: str) -> str:
        return text.lower() if self.spec.lowercase else text

    def _encode(self, texts: dict[int, str], *, specials: bool) -> Iterator[Encoded]:
        """Yield each text's encoding, cut to the limit, and how many tokens it had before (None: too many to count)."""
        left = dict(texts)
        size = max(_FIRST, _CHARS_A_TOKEN * self.spec.max_length)
        added = self._specials if specials else 0
        while left:
            heads = {index: _head(text, size, between_words=self._between_words) for index, text in left.items()}
            encodings = self._tokenizer.encode_batch_fast(list(heads.values()), add_special_tokens=specials)
            for (index, head), encoding in zip(heads.items(), encodings, strict=True):
                whole = len(head) == len(left[index])
                count = len(encoding.ids) + sum(len(rest.ids) - added for rest in encoding.overflowing)
                if whole or count > self.spec.max_length + self._edge:
                    yield index, encoding, count if whole else None
                    del left[index]
            size *= 2

    def _encode_pairs(self, firsts: dict[int, str], seconds: dict[int, str]) -> Iterator[Encoded]:
        """Yield the encodings of pairs, of which the longer text is cut first, and their counts."""
        room = self.spec.max_length - self._pair_specials
        others = {index: (encoding, count) for index, encoding, count in self._encode(seconds, specials=False)}
        for index, first, count in self._encode(firsts, specials=False):
            second, other = others[index]
            total = None if count is None or other is None else count + other + self._pair_specials
            # Of a text with too many tokens to count, the characters must do.
            sizes = (
                _MANY + len(firsts[index]) if count is None else count,
                _MANY + len(seconds[index]) if other is None else other,
            )
            for encoding, share in zip((first, second), _shares(*sizes, room), strict=True):
                encoding.truncate(share)
            yield index, self._tokenizer.post_process(first, second), total

    def _fault(self, content: Any) -> EmbedgeError | None:
        """Return what can be seen to be wrong without tokenising."""
        if isinstance(content, str) and self._lenient:
            return self._bad_string(content)
        if not isinstance(content, (str, Text)):
            return InvalidInput(f"a text is needed here, not {type(content).__name__}")
        text = Text(content) if isinstance(content, str) else content
        fault = self._misfit(text)
        for string in () if fault else _strings(text):
            fault = fault or self._bad_string(string)
        return fault

    def _misfit(self, text: Text) -> EmbedgeError | None:
        """Return what the text comes with and this part does not take, or lacks."""
        if text.pair is not None and not self.spec.pairs:
            return InvalidInput("this model takes no pairs of texts; send one text")
        if text.instruction is not None and self.spec.instruction is None:
            return InvalidInput("this model takes no instruction; leave it out")
        if "language" not in self.spec.inputs:
            return None if text.language is None else InvalidInput("this model takes no language; leave it out")
        if text.language is None and self.spec.default_language is None:
            return InvalidInput(f"a language is needed: {', '.join(sorted(self.spec.languages))}")
        if text.language is not None and text.language not in self.spec.languages:
            known = ", ".join(sorted(self.spec.languages))
            return InvalidInput(f"language {text.language!r} is unknown; this model has: {known}")
        return None

    def _bad_string(self, text: Any) -> EmbedgeError | None:
        if not isinstance(text, str):
            hint = "; give the file's text: path.read_text()" if isinstance(text, Path) else ""
            return InvalidInput(f"a text is needed here, not {type(text).__name__}{hint}")
        if not self.spec.allow_empty and not text.strip():
            return InvalidInput("the text is empty; leave it out, or send some text")
        try:  # the first look, at characters, keeps the largest from being copied
            too_long = len(text) > self._max_bytes or len(text.encode()) > self._max_bytes
        except UnicodeEncodeError:
            return InvalidInput("the text holds lone surrogates and is not valid Unicode; decode it as UTF-8 first")
        if too_long:
            return InvalidInput(
                f"the text has more than {self._max_bytes:,} bytes, the server's limit (max_text_bytes); split it"
            )
        return None

    def _row(self, content: str | Text, encoding: Encoding, count: int | None, truncate: bool) -> Row | EmbedgeError:
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
        inputs = self.spec.inputs
        row = {inputs["ids"]: np.array(encoding.ids, dtype=np.int64)}
        if "types" in inputs:
            row[inputs["types"]] = np.array(encoding.type_ids, dtype=np.int64)
        if "language" in inputs:
            language = content.language if isinstance(content, Text) else None
            row[inputs["language"]] = np.array(self.spec.languages[language or str(self.spec.default_language)])
        return row


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text are kept where the longer is cut first, down to the length of the other."""
    if first + second <= room:
        return first, second
    less = min(first, second, room // 2)
    return (less, room - less) if first <= second else (room - less, less)


def _strings(text: Text) -> tuple[str, ...]:
    """Return the strings of a text that are tokenised."""
    return tuple(each for each in (text.text, text.pair, text.instruction) if each is not None)


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
