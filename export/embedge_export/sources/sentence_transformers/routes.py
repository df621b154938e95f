"""Routes through a sentence-transformers model: the modules that a text of one task goes through, and its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedge_export.errors import ExportError
from embedge_export.recipe import Recipe
from embedge_export.sources import tokenizer as tokenizers

__all__ = ["Route", "routes_of"]

# Where `encode` looks for the prompt of a task.
_PROMPTS: Mapping[str | None, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


@dataclass(frozen=True, eq=False)
class Route:
    """One way through a model. name: of the tower. task: what `encode` is told, if anything."""

    name: str
    task: str | None
    modules: tuple[Any, ...]

    @property
    def first(self) -> Any:
        """The module that tokenises."""
        return self.modules[0]

    @property
    def expansion(self) -> Mapping[str, Any] | None:
        """How queries are filled up with mask tokens (Khattab and Zaharia, 2020, arXiv:2004.12832), if they are."""
        return getattr(self.first, "query_expansion", None) if self.task == "query" else None

    def named(self, name: str) -> list[Any]:
        """Return its modules of this type."""
        return [module for module in self.modules if type(module).__name__ == name]

    def check(self, path: Path) -> None:
        """Raise ExportError for what a graph of texts and tokens cannot be."""
        if self.static:
            return
        said = self.first.modality_config.get("text", {})
        states = ("forward", "logits" if self.first.transformer_task == "fill-mask" else "last_hidden_state")
        if "message" in self.first.modality_config or (said.get("method"), said.get("method_output_name")) != states:
            raise ExportError(
                f"{path}: this Transformer module does more than give token vectors; it cannot be exported"
            )
        if self.expansion and self.expansion["strategy"] != "fixed":
            raise ExportError(
                f"{path}: queries are filled up to a length that is not always the same (query_expansion strategy "
                f"{self.expansion['strategy']!r}), which cannot be exported; save the model with 'fixed'"
            )

    @property
    def static(self) -> bool:
        """Whether tokens are looked up, without special ones."""
        return type(self.first).__name__ in ("StaticEmbedding", "SparseStaticEmbedding")

    def tokenizer(self, path: Path) -> str:
        """Return its tokenizer.json. Raises ExportError."""
        own = self.first.tokenizer
        text = tokenizers.from_transformers(own, path) if hasattr(own, "is_fast") else own.to_str()
        return tokenizers.bare(text, path, specials=not self.static)

    def pad_id(self) -> int:
        """Return what a batch is padded with; queries that are filled up, with that token."""
        tokenizer = self.first.tokenizer
        if self.expansion and self.expansion["token"] is not None:
            return int(tokenizer.convert_tokens_to_ids(self.expansion["token"]))
        own = [tokenizer.mask_token_id, tokenizer.eos_token_id] if self.expansion else []
        return next((each for each in (*own, getattr(tokenizer, "pad_token_id", None)) if each is not None), 0)

    def limit(self, wanted: int | None, path: Path) -> int:
        """Return the most tokens of a text, and have the model cut there as well. Raises ExportError.

        wanted: what the recipe says; queries that are filled up have the length that they are trained with.
        """
        if self.expansion:
            return int(self.expansion["length"])
        if wanted is not None:
            self._cut(wanted)
        own = getattr(self.first, f"{self.task}_length", None) if self.task else None
        tokenizer = self.first.tokenizer
        limit = wanted or own or getattr(tokenizer, "model_max_length", None)
        if limit is None or limit > tokenizers.NO_LIMIT:
            raise ExportError(f"{path}: the model names no length limit; set max_length in the recipe")
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
        """Return the prompts by name, and the name of that of a text that is sent without one."""
        said = recipe.of(self.name)
        prompts = {name: prompt for name, prompt in {**model.prompts, **(said.prompts or {})}.items() if prompt}
        own = next((n for n in _PROMPTS.get(self.task, ()) if n in model.prompts), model.default_prompt_name)
        return prompts, said.default_prompt or (own if own in prompts else None)


def routes_of(model: Any, path: Path) -> list[Route]:
    """Return the routes, those of a fixed length last: graphs are traced with the first. Raises ExportError."""
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
