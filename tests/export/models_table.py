"""The table of docs/models.md, measured: every stand-in is exported, served by one server process, and asked over gRPC.

Each answer is held against what the original model gives for the same item, through its own processor where it has
one: the pairs that the export recorded. `python -m tests.export.models_table [NAME …] [--write]`; `make models`
measures all and writes the page; with names, only their rows are. Exit code 1: a figure is beyond its limit.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from embedge import Bundle, Client, Request
from embedge.bundle.output_specs import DenseOutput
from embedge.content import Image
from embedge.verify import Golden, Pairs
from embedge.verify.compare import SHARES, compare, rows
from embedge_export.build import build
from embedge_export.quiet import quiet
from tests.export.stand_ins import PATTERNS, STAND_INS, StandIn
from tests.servers import served
from tests.structure.code import ROOT

__all__ = ["Row", "measured", "page"]

PAGE = ROOT / "docs" / "models.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- until here -->\n"
_LABELS = ("a value", "the list", "an error", "one word")
_COLUMNS = ("patterns", "stand-in", "after", "tower", "output", "items", "served, against the original's")

console = Console(stderr=True)


@dataclass(frozen=True)
class Row:
    """What one output of a stand-in gave over gRPC. figures: of the worst item, or of all for shares."""

    stand_in: StandIn
    tower: str
    output: str
    items: int
    figures: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether cosines are at least 0.9999, shares all, and differences at most 1e-4 of the vector's length."""
        return all(_within(name, value) for name, value in self.figures.items())

    def cells(self) -> list[str]:
        """Return the row as the page shows it."""
        shown = [_shown(name, value) for name, value in self.figures.items()]
        stand_in = self.stand_in
        patterns = ", ".join(stand_in.patterns)
        return [
            patterns,
            f"`{stand_in.name}`",
            stand_in.after,
            self.tower,
            self.output,
            str(self.items),
            ", ".join(shown),
        ]


def _within(name: str, value: float) -> bool:
    if name in SHARES:
        return value == 1
    return value <= 1e-4 if name.endswith("max_abs") else value >= 0.9999


def _shown(name: str, value: float) -> str:
    if name in SHARES:
        return f"{name} {value:.2%}"
    return f"{name} {value:.1e}" if name.endswith("max_abs") else f"{name} {math.floor(value * 1e7) / 1e7:.7f}"


def measured(stand_ins: Sequence[StandIn], folder: Path) -> Iterator[Row]:
    """Build the stand-ins below `folder`, serve them, and yield a row an output."""
    for stand_in in stand_ins:
        console.print(f"export {stand_in.name}")
        build(stand_in.recipe(folder / "sources" / stand_in.name), folder / "engines")
    console.print("serve")
    with served(folder / "engines", "--lanes", "1", "--threads", "1") as server, Client(server.address) as client:
        for stand_in in stand_ins:
            console.print(f"ask {stand_in.name}")
            yield from _asked(client, stand_in, Bundle.load(folder / "engines" / stand_in.name), folder)


def _asked(client: Client, stand_in: StandIn, bundle: Bundle, folder: Path) -> Iterator[Row]:
    golden = Golden.read(bundle).towers
    for name, pairs in golden.items():
        outputs = bundle.manifest.towers[name].outputs
        reply = client.run(stand_in.name, Request(items=pairs.items, tower=name, outputs=(*outputs,), truncate=True))
        for key, output in outputs.items():
            yield _row(stand_in, name, key, output, rows(reply.outputs[key]), pairs.outputs[key])
            if isinstance(output, DenseOutput) and output.dims:
                dim = min(output.dims)
                cut = client.embed(stand_in.name, pairs.items, tower=name, output=key, dim=dim, truncate=True)
                theirs = [row[:dim] / np.linalg.norm(row[:dim]) for row in pairs.outputs[key]]
                yield _row(stand_in, name, f"{key}, cut to {dim}", output, list(cut), theirs)
    if stand_in.labelled:
        yield _labelled(client, stand_in, golden["image"], folder / "sources" / stand_in.name)


def _row(
    stand_in: StandIn, tower: str, name: str, output: Any, ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]
) -> Row:
    found = [compare(output, mine, other) for mine, other in zip(ours, theirs, strict=True)]
    figures = {key: _worst(key, [each[key] for each in found if key in each]) for key in found[0]}
    return Row(stand_in, tower, name, len(found), figures)


def _worst(name: str, values: Sequence[float]) -> float:
    if name in SHARES:
        return float(np.mean(values))
    return max(values) if name.endswith("max_abs") else min(values)


def _labelled(client: Client, stand_in: StandIn, pairs: Pairs, source: Path) -> Row:
    """Return how far scores of labels are from those of the library's own model and processor."""
    import torch
    from PIL import Image as Pillow
    from transformers import AutoModel, AutoProcessor

    images = [item["image"] for item in pairs.items]
    ours = client.classify(stand_in.name, images, _LABELS).values
    model, processor = AutoModel.from_pretrained(source).eval(), AutoProcessor.from_pretrained(source)
    pictures = [_upright(Pillow.open(io.BytesIO(image.data))) for image in images if isinstance(image, Image)]
    sigmoid = hasattr(model, "logit_bias")  # such models were trained on texts of one length
    longest = model.config.text_config.max_position_embeddings
    texts = {
        "text": [*_LABELS],
        "padding": "max_length" if sigmoid else True,
        "truncation": True,
        "max_length": longest,
    }
    with torch.no_grad(), quiet():
        logits = model(**processor(images=pictures, return_tensors="pt", **texts)).logits_per_image
    theirs = (logits.sigmoid() if sigmoid else logits.softmax(dim=-1)).numpy()
    figures = {"max_abs": float(np.abs(ours - theirs).max())}
    return Row(stand_in, "image", f"{len(_LABELS)} labels", len(ours), figures)


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture).convert("RGB")


def page(found: Sequence[Row], before: str = "") -> str:
    """Return the rows as a Markdown table, by the first pattern of each; lines `before` of other stand-ins stay."""
    measured_now = {f"`{row.stand_in.name}`" for row in found}
    kept = [line for line in before.splitlines()[2:] if line.split(" | ")[1] not in measured_now]
    order = [*PATTERNS]
    lines = [*kept, *("| " + " | ".join(row.cells()) + " |" for row in found)]
    lines.sort(key=lambda line: order.index(line[2:].partition(" |")[0].partition(",")[0]))
    head = ["| " + " | ".join(cells) + " |" for cells in (_COLUMNS, ["---"] * len(_COLUMNS))]
    return "\n".join([*head, *lines]) + "\n"


def main() -> int:
    """Measure, print, and write the page where asked; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="stand-ins to measure; none: all")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    said = parser.parse_args()
    chosen = [each for each in STAND_INS if not said.names or each.name in said.names]
    with tempfile.TemporaryDirectory() as folder:
        found = list(measured(chosen, Path(folder)))
    table = page(found)
    Console().print(table, markup=False, soft_wrap=True)
    if said.write:
        start, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
        old, _, end = rest.partition(_END)
        PAGE.write_text(start + _BEGIN + page(found, old if said.names else "") + _END + end, encoding="utf-8")
    missed = [row for row in found if not row.passed]
    for row in missed:
        console.print(f"[red]beyond its limit:[/] {' · '.join(row.cells())}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
