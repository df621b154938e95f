"""Existing ONNX files with their tokenizer.json. A graph of token vectors gets the recipe's pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedge_export.errors import ExportError
from embedge_export.model import GraphInput, SourceModel
from embedge_export.onnx_graph import files as graph
from embedge_export.recipe import POOLING, Recipe
from embedge_export.sources import pooling, text, weights
from embedge_export.sources import tokenizer as tokenizers

if TYPE_CHECKING:
    import onnx

__all__ = ["fits", "load"]

_ROLES = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}


def fits(path: Path) -> bool:
    """Return whether `path` is an ONNX file, or a directory with one and without other weights."""
    if path.is_file():
        return path.suffix == ".onnx"
    return len(list(path.glob("*.onnx"))) == 1 and not any(path.glob("*.safetensors"))


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Load the file. `allow_pickle` has no effect on ONNX. Raises ExportError."""
    file = path if path.is_file() else next(iter(path.glob("*.onnx")))
    tokenizer = _tokenizer(file)
    if recipe.max_length is None:
        raise ExportError(f"{file}: an ONNX file has no length limit; set max_length in the recipe")
    tokenizers.check(tokenizer, file, max_length=recipe.max_length)
    import onnx

    graph.check(file)
    model = onnx.load(file)
    inputs = _inputs(model, file)
    dim = _output(model, recipe, file)
    normalized = bool(recipe.normalize)
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return text.one_vector(
        kind="onnx",
        prepare=text.text_prepare(
            max_length=recipe.max_length,
            pad_id=_pad_id(file, tokenizer),
            inputs=inputs,
            prompts=recipe.prompts,
            default_prompt=recipe.default_prompt,
        ),
        tokenizer=tokenizer,
        graph=_WithHead(model, recipe, dim),
        encode=_OnnxOriginal(file, tokenizer, recipe, inputs, recipe.max_length),
        dim=dim,
        dims=recipe.dims,
        normalized=normalized,
        definition={"weights": weights.tensor_hash(tensors), "pooling": recipe.modes},
        hashes={file.name: weights.file_hashes(file)[file.name]},
        tools={"onnx": onnx.__version__},
    )


def _tokenizer(file: Path) -> str:
    where = file.parent / "tokenizer.json"
    if not where.is_file():
        raise ExportError(f"{where}: missing; an ONNX source needs its tokenizer.json beside it")
    return tokenizers.bare(where.read_text(encoding="utf-8"), where)


def _pad_id(file: Path, tokenizer: str) -> int:
    """Return the padding token's id: from the file's padding, or a token of a usual name; else 0."""
    own = Tokenizer.from_file(str(file.parent / "tokenizer.json")).padding
    if own:
        return int(own["pad_id"])
    known = (Tokenizer.from_str(tokenizer).token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((number for number in known if number is not None), 0)


def _inputs(model: onnx.ModelProto, file: Path) -> dict[Any, str]:
    names = [value.name for value in model.graph.input]
    unknown = [name for name in names if name not in _ROLES]
    if unknown or not {"input_ids", "attention_mask"} <= set(names):
        raise ExportError(
            f"{file}: its inputs are {', '.join(names)}; supported are {', '.join(_ROLES)}, the first two required"
        )
    return {_ROLES[name]: name for name in names}


def _output(model: onnx.ModelProto, recipe: Recipe, file: Path) -> int:
    """Return the size of vectors. Raises ExportError if the recipe does not fit the first output."""
    shape = model.graph.output[0].type.tensor_type.shape.dim
    width = shape[-1].dim_value if shape else 0
    if len(shape) not in (2, 3) or width < 1:
        raise ExportError(f"{file}: its first output must be (batch, dim) or (batch, length, dim), with a fixed dim")
    if len(shape) == 2:
        if recipe.modes:
            raise ExportError(f"{file}: its first output is pooled already; remove pooling from the recipe")
        return width
    if not recipe.modes:
        raise ExportError(f"{file}: its first output is token vectors; set pooling to one of {', '.join(POOLING)}")
    return width * len(recipe.modes)


@dataclass(frozen=True, eq=False)
class _WithHead:
    """The graph with the head added, at its own opset."""

    model: onnx.ModelProto
    recipe: Recipe
    dim: int

    def write(self, path: Path, inputs: Sequence[GraphInput], *, opset: int) -> None:
        """Write the graph, with its own inputs and opset."""
        import onnx_ir as ir

        from embedge_export.sources.onnx import head as onnx_head

        normalize = bool(self.recipe.normalize)
        onnx_head.append(self.model, self.recipe.modes, normalize=normalize, dim=self.dim, output=text.OUTPUT)
        graph.save(ir.from_proto(self.model), path)


class _OnnxOriginal:
    """The unchanged file, run by ONNX Runtime one text at a time, and pooled in NumPy."""

    def __init__(self, file: Path, tokenizer: str, recipe: Recipe, inputs: dict[Any, str], max_length: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.enable_truncation(max_length)
        self._inputs = inputs
        self._recipe = recipe
        self._prefix = recipe.prompts.get(recipe.default_prompt, "") if recipe.default_prompt else ""

    def __call__(self, one: str) -> NDArray[np.float32]:
        vector = self._vector(self._prefix + one)
        return pooling.normalize(vector[None])[0] if self._recipe.normalize else vector

    def _vector(self, one: str) -> NDArray[np.float32]:
        encoding = self._tokenizer.encode(one)
        rows = {"ids": encoding.ids, "mask": encoding.attention_mask, "types": encoding.type_ids}
        feeds = {name: np.array([rows[role]], dtype=np.int64) for role, name in self._inputs.items()}
        first: NDArray[np.float32] = self._session.run(None, feeds)[0][0]
        return pooling.pool(first, self._recipe.modes) if self._recipe.modes else first
