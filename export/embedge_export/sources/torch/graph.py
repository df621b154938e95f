"""Torch modules as graph sources."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge_export.model import GraphInput
from embedge_export.onnx_graph import files as graph
from embedge_export.sources.torch import heads
from embedge_export.sources.torch.attention import eager_attention

__all__ = ["Named", "TorchGraph", "tools"]


@dataclass(frozen=True, eq=False)
class TorchGraph:
    """A module as a graph: takes the graph's inputs by keyword, and returns a tensor, or a tuple for `outputs`.

    Its transformers backbones are traced with eager attention.
    """

    module: nn.Module
    outputs: tuple[str, ...]

    def write(self, path: Path, inputs: Sequence[GraphInput], *, opset: int) -> None:
        """Write the graph. Raises ExportError."""
        with ExitStack() as stack:
            for backbone in _backbones(self.module):
                stack.enter_context(eager_attention(backbone))
            graph.export(self.module, path, inputs=inputs, outputs=self.outputs, opset=opset)


class Named(nn.Module):
    """A module with its tensors selected by `pick`; those at the indices in `unit` are scaled to length 1."""

    def __init__(self, module: nn.Module, pick: Callable[[Any], Sequence[Tensor]], unit: Collection[int]) -> None:
        super().__init__()
        self.module, self._pick, self._unit = module, pick, frozenset(unit)

        def forward(**inputs: Tensor) -> tuple[Tensor, ...]:
            return self._collect(self.module(**inputs))

        # The exporter reads input names from the signature; this module takes those of the wrapped one.
        forward.__signature__ = inspect.signature(module.forward)  # type: ignore[attr-defined]
        self.forward = forward

    def _collect(self, given: Any) -> tuple[Tensor, ...]:
        found = self._pick(given)
        return tuple(heads.unit(each) if place in self._unit else each for place, each in enumerate(found))


def _backbones(module: nn.Module) -> Iterator[Any]:
    """Yield the outermost transformers modules; each switches those inside it."""
    if hasattr(module, "set_attn_implementation"):
        yield module
        return
    for child in module.children():
        yield from _backbones(child)


def tools(*names: str) -> dict[str, str]:
    """Return the installed versions of distributions by name."""
    return {name: importlib.metadata.version(name) for name in names}
