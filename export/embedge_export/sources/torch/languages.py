"""X-MOD (Pfeiffer et al., 2022, arXiv:2205.06266): an encoder with adapters for each language.

transformers selects the rows of each language with a mask, one adapter at a time, in sizes unknown to a graph. Here
each row looks up the weights of its language, so a batch of several languages needs one matmul.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["by_row", "languages"]


def languages(model: Any) -> dict[str, int]:
    """Return the model's number of each language; empty for models without adapters."""
    if model.config.model_type != "xmod":
        return {}
    return {name: number for number, name in enumerate(model.encoder.layer[0].output.adapter_modules)}


def by_row(model: Any) -> Any:
    """Return an exportable X-MOD with stacked adapter weights. The given model stays unchanged."""
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
    """Linear layers of one shape, one for each row."""

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]), requires_grad=False)
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]), requires_grad=False)

    def forward(self, rows: Tensor, chosen: Tensor) -> Tensor:
        found: Tensor = torch.matmul(rows, self.weight[chosen]) + self.bias[chosen].unsqueeze(1)
        return found
