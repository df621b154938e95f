"""X-MOD (Pfeiffer et al., 2022, arXiv:2205.06266): an encoder with adapters of its own for each language.

transformers picks the rows of each language with a mask, a step an adapter, in sizes that no graph can know. Here each
row looks its language's weights up, so that rows of several languages are one batch and one matmul.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["by_row", "languages"]


def languages(model: Any) -> dict[str, int]:
    """Return the number that the model knows each language by; none for models without adapters."""
    if model.config.model_type != "xmod":
        return {}
    return {name: number for number, name in enumerate(model.encoder.layer[0].output.adapter_modules)}


def by_row(model: Any) -> Any:
    """Return an X-MOD that exports: its own weights, with the adapters' put together. The given one stays as it is."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    exportable = copy.deepcopy(model, shared)
    for layer in exportable.encoder.layer:
        layer.output = _AdapterOutput(layer.output)
    return exportable


class _AdapterOutput(nn.Module):
    """The second half of a layer, adapters included: XmodOutput, whose `LayerNorm` the layer uses."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.dense, self.LayerNorm = output.dense, output.LayerNorm
        own = output.adapter_layer_norm
        self.norm = own if own is not None else self.LayerNorm if output.adapter_reuse_layer_norm else nn.Identity()
        self.early = output.ln_before_adapter
        adapters = list(output.adapter_modules.values())
        self.down, self.up = (
            _LinearPerRow([getattr(each, name) for each in adapters]) for name in ("dense1", "dense2")
        )
        self.act = adapters[0].adapter_act_fn

    def forward(self, hidden_states: Tensor, input_tensor: Tensor, lang_ids: Tensor) -> Tensor:
        hidden = self.dense(hidden_states) + input_tensor
        normed = self.norm(hidden)
        adapted: Tensor = self.up(self.act(self.down(normed, lang_ids)), lang_ids)
        beside: Tensor = normed if self.early else hidden
        return adapted + beside


class _LinearPerRow(nn.Module):
    """Linear layers of one shape, one of them for each row."""

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]), requires_grad=False)
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]), requires_grad=False)

    def forward(self, rows: Tensor, chosen: Tensor) -> Tensor:
        found: Tensor = torch.matmul(rows, self.weight[chosen]) + self.bias[chosen].unsqueeze(1)
        return found
