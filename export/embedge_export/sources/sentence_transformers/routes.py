"""Routes through a sentence-transformers model: the modules and tokens for texts of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedge_export.errors import ExportError
from embedge_export.recipe import Recipe
from embedge_export.sources import tokenizer as tokenizers

__all__ = ["Route", "routes_of"]

# Where `encode` looks up the prompt of a task.
_PROMPTS: Mapping[str | None, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


@dataclass(frozen=True, eq=False)
class Route:
    """One route through a model.

    Attributes:
        name: The tower's name.
        task: The `task` argument of `encode`, if any.
    """

    name: str
    task: str | None
    modules: tuple[Any, ...]

    @property
    def first(self) -> Any:
        """The tokenizing module."""
        return self.modules[0]

    @property
    def expansion(self) -> Mapping[str, Any] | None:
        """Settings of query expansion with mask tokens (Khattab and Zaharia, 2020, arXiv:2004.12832), if any."""
        return getattr(self.first, "query_expansion", None) if self.task == "query" else None

    def named(self, name: str) -> list[Any]:
        """Return the route's modules of this type."""
        return [module for module in self.modules if type(module).__name__ == name]

    def check(self, path: Path) -> None:
        """Raise ExportError if the route cannot be a graph from tokens to vectors."""
        if self.static:
            return
        said = self.first.modality_config.get("text", {})
        states = ("forward", "logits" if self.first.transformer_task == "fill-mask" else "last_hidden_state")
        if "message" in self.first.modality_config or (said.get("method"), said.get("method_output_name")) != states:
            raise ExportError(
                f"{path}: this Transformer module does more than compute token vectors; it cannot be exported"
            )
        if self.expansion and self.expansion["strategy"] != "fixed":
            raise ExportError(
                f"{path}: queries expand to a length that varies (query_expansion strategy "
                f"{self.expansion['strategy']!r}), which cannot be exported; save the model with 'fixed'"
            )

    @property
    def static(self) -> bool:
        """Whether tokens are looked up in a table, without special tokens."""
        return type(self.first).__name__ in ("StaticEmbedding", "SparseStaticEmbedding")

    def tokenizer(self, path: Path) -> str:
        """Return the route's tokenizer.json. Raises ExportError."""
        own = self.first.tokenizer
        text = tokenizers.from_transformers(own, path) if hasattr(own, "is_fast") else own.to_str()
        return tokenizers.bare(text, path, specials=not self.static)

    def pad_id(self) -> int:
        """Return the padding token's id; expanded queries pad with the expansion token."""
        tokenizer = self.first.tokenizer
        if self.expansion and self.expansion["token"] is not None:
            return int(tokenizer.convert_tokens_to_ids(self.expansion["token"]))
        own = [tokenizer.mask_token_id, tokenizer.eos_token_id] if self.expansion else []
        return next((each for each in (*own, getattr(tokenizer, "pad_token_id", None)) if each is not None), 0)

    def limit(self, wanted: int | None, path: Path) -> int:
        """Return the length limit of a text in tokens, and set it in the model too. Raises ExportError.

        `wanted` is the recipe's max_length. Expanded queries keep the length of their training.
        """
        if self.expansion:
            return int(self.expansion["length"])
        if wanted is not None:
            self._cut(wanted)
        own = getattr(self.first, f"{self.task}_length", None) if self.task else None
        tokenizer = self.first.tokenizer
        limit = wanted or own or getattr(tokenizer, "model_max_length", None)
        if limit is None or limit > tokenizers.NO_LIMIT:
            raise ExportError(f"{path}: the model has no length limit; set max_length in the recipe")
        return int(limit)

    def _cut(self, limit: int) -> None:
        tokenizer = self.first.tokenizer
        if self.task and hasattr(self.first, f"{self.task}_length"):
            setattr(self.first, f"{self.task}_length", limit)
        elif hasattr(tokenizer, "model_max_length"):
            tokenizer.model_max_length = limit
        else:
            tokenizer.enable_truncation(limit)

    def prompts(self, model: Any, recipe: Recipe) -> tuple[dict[str, str], str | None]:
        """Return the prompts by name, and the name of the default prompt."""
        said = recipe.of(self.name)
        prompts = {name: prompt for name, prompt in {**model.prompts, **(said.prompts or {})}.items() if prompt}
        own = next((n for n in _PROMPTS.get(self.task, ()) if n in model.prompts), model.default_prompt_name)
        return prompts, said.default_prompt or (own if own in prompts else None)


def routes_of(model: Any, path: Path) -> list[Route]:
    """Return the routes, those of fixed length last, since graphs are traced with the first. Raises ExportError."""
    modules = tuple(model)
    if type(modules[0]).__name__ == "Router":
        router, *after = modules
        if router.route_mappings:
            raise ExportError(f"{path}: routes that depend on more than the task (route_mappings) cannot be exported")
        routes = [Route(name, name, (*own, *after)) for name, own in router.sub_modules.items()]
    elif type(model).__name__ == "MultiVectorEncoder":
        routes = [Route(task, task, modules) for task in ("document", "query")]
    else:
        routes = [Route("text", None, modules)]
    for route in routes:
        route.check(path)
    return sorted(routes, key=lambda route: route.expansion is not None)
