"""What every source gives: enough to write a graph, to prepare texts as the original does, and to ask the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embedge_export.errors import ExportError

__all__ = ["Encoder", "GraphWriter", "Original", "Role"]

Role = Literal["ids", "mask", "types"]


class GraphWriter(Protocol):
    """Writes the encoder, with pooling, projection and normalisation in it, as one ONNX file.

    Inputs: int64 (batch, length), by the names in `Encoder.inputs`. Output: `embedding`, float32 (batch, dim).
    """

    def __call__(self, path: Path, *, opset: int) -> None:
        """Write the graph. Raises ExportError."""
        ...


class Original(Protocol):
    """The original implementation: texts in, float32 (n, dim) out, cut at the length limit."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors."""
        ...


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A trained encoder, ready to be exported.

    tokenizer: a tokenizer.json without padding or truncation of its own. inputs: graph input by role.
    definition: what defines the vector space, as JSON values: weights hash, pooling, projection.
    hashes: SHA-256 of the source's files. tools: versions of what read them.
    """

    kind: str
    write_graph: GraphWriter
    encode: Original
    tokenizer: str
    max_length: int
    pad_id: int
    inputs: dict[Role, str]
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dim: int
    normalized: bool
    definition: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse facts that contradict each other."""
        if self.default_prompt and self.default_prompt not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise ExportError(f"default_prompt {self.default_prompt!r} is not among the prompts: {known}")
