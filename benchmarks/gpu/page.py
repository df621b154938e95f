"""The page of GPU benchmarks, rendered from the record of a run; without a record it states that none was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.gpu.records import Record
from embedge_bench.results import Estimate
from embedge_bench.stats import spread

__all__ = ["render"]

_HEAD = """# GPU benchmarks

What `python -m benchmarks.gpu` measures, and the results. `--write` generates this page from the record of one run; all
numbers come from that record.

| command | what it does |
|---|---|
| `make gpu` | run the GPU tests, then the benchmark |
| `python -m benchmarks.gpu --json FILE --write` | run the benchmark; write its record and this page |
| `python -m benchmarks.gpu.prepare DIR` | make the models, on any machine, with `embedge[export]` |
| `python -m benchmarks.gpu --bundles DIR` | run with models made elsewhere; needs neither transformers nor onnx |

From a checkout, the benchmark needs only the runtime's own dependencies (msgspec, numpy, tokenizers, typer). It
measures those of TensorRT, onnxruntime-gpu and PyTorch it finds, and lists missing ones. You can carry a folder of
models to a machine without a network. Exit status: 0 if all checks pass, 1 if a check or parity fails, 2 without a GPU,
with a list of missing requirements.

`make gpu` installs neither TensorRT nor onnxruntime-gpu. Install them into `.venv` first, the second in place of
onnxruntime: [GPU servers](gpu.md#drivers-and-packages), [Jetson](jetson.md#versions-and-packages).

Models: MiniLM (its real weights), ViT-B/16 at 224 pixels and BERT-base (random weights). Throughput and latency run
from host arrays to host vectors through our lanes, without tokenizer and scheduler. Methods take turns in random order
within rounds; ratios are taken within a round. TF32 is off everywhere. PyTorch runs eagerly. Parity is against the
float32 graph on a CPU. The cosine gap is 1 minus the lowest cosine; batch invariance is the same gap between a row
alone and the row among others. Shapes are rows x length.
"""
_NONE = """
## Results

**No GPU was at hand: nothing here has been measured on one.** All of it ran on a simulated GPU (`tests/gpu`). That
tests its correctness, not its speed.
"""


def render(record: Record | None) -> str:
    """Return the page."""
    if record is None:
        return _HEAD + _NONE
    parts = (_device, _missing, _checks, _parity, _ratios, _rates, _latencies)
    return "\n".join([_HEAD, *(text for part in parts if (text := part(record)))])


def _device(record: Record) -> str:
    gpu = record.device
    facts = {
        "Date": record.date,
        "GPU": gpu.name,
        "compute capability": gpu.capability,
        "multiprocessors": str(gpu.multiprocessors),
        "memory": f"{_number(gpu.memory)} GiB",
        "CUDA of the driver": gpu.cuda,
        "driver": gpu.driver,
        **record.versions,
    }
    lines = (f"{name}: {value}" for name, value in facts.items() if value)
    ranges = spread(record.rounds) if record.rounds > 1 else "there are none: of a single round"
    return f"## Results\n\n{_list(lines)}\n\nIn brackets: {ranges}.\n"


def _missing(record: Record) -> str:
    return f"Not measured:\n\n{_list(record.missing)}\n" if record.missing else ""


def _checks(record: Record) -> str:
    rows = [(each.provider, each.version, "good" if each.good else f"**{each.said}**") for each in record.checks]
    return _table("What our lanes ask of CUDA", ("library", "version", "result"), rows)


def _parity(record: Record) -> str:
    rows = [
        (
            *(each.model, each.precision, each.way),
            *map(_number, (each.rows, each.gap, each.invariance, each.limit)),
            "good" if each.good else "**missed**",
        )
        for each in record.parity
    ]
    head = ("model", "precision", "way", "rows", "cosine gap", "batch invariance", "limit", "")
    return _table("Parity", head, rows)


def _ratios(record: Record) -> str:
    rows = [
        (
            *(each.what, each.model, each.precision, each.shape, each.way, each.base, _estimate(each.value)),
            "" if each.target is None else _met(each.value.value, each.target),
        )
        for each in record.ratios
    ]
    return _table("Ratios", ("what", "model", "precision", "shape", "way", "of", "times", "target"), rows)


def _rates(record: Record) -> str:
    rows = [(each.model, each.precision, each.shape, each.way, _estimate(each.rows)) for each in record.rates]
    return _table("Throughput", ("model", "precision", "shape", "way", "rows a second"), rows)


def _latencies(record: Record) -> str:
    rows = [
        (each.model, each.precision, each.shape, each.way, _estimate(each.p50), _estimate(each.p99))
        for each in record.latencies
    ]
    return _table("Latency of one row", ("model", "precision", "shape", "way", "p50, ms", "p99, ms"), rows)


def _met(value: float, target: float) -> str:
    return f">= {_number(target)}, {'met' if value >= target else '**missed**'}"


def _estimate(found: Estimate) -> str:
    edges = [_number(edge) for edge in (found.low, found.high) if edge is not None]
    return f"{_number(found.value)} ({' to '.join(edges)})" if edges else _number(found.value)


def _number(value: float) -> str:
    """Return the number as recorded: with its significant digits."""
    return str(int(value)) if value == int(value) else repr(value)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""])


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)
