"""Weights of a vocabulary's entries, after SPLADE (Formal et al., 2021, arXiv:2107.05720), over a small BERT."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

__all__ = ["LexicalTower"]


class LexicalTower(nn.Module):
    """Token ids and mask (batch, length) to weights (batch, vocabulary): the maximum of log(1 + relu(logit))."""

    def __init__(self, vocabulary: int = 259) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
        self.bert = BertForMaskedLM(config)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(ids) if mask is None else mask
        logits = self.bert(input_ids=ids, attention_mask=mask).logits
        return (torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)).amax(1)
