"""The page of figures from GPUs: written from a record, and without one it says that there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.gpu.records import Record
from embedge_bench.results import Estimate
from embedge_bench.stats import spread

__all__ = ["render"]

_HEAD = """# Benchmarks on a GPU

What `python -m benchmarks.gpu` measures, and what came out. The page is written by `--write`, from the record of one
run; no figure on it is from elsewhere.

| command | what |
|---|---|
| `make gpu` | the tests that need a GPU, then the run |
| `python -m benchmarks.gpu --json FILE --write` | the run; its record; this page |
| `python -m benchmarks.gpu.prepare DIR` | make the models, on any machine, with `embedge[export]` |
| `python -m benchmarks.gpu --bundles DIR` | the run with models made elsewhere: needs neither transformers nor onnx |

From a checkout the run needs what the runtime itself does (msgspec, numpy, tokenizers, typer), and measures whichever
of TensorRT, onnxruntime-gpu and PyTorch are there; a line says what is not. A folder of models can be carried to a
machine without a network. Without a GPU the run says what is missing, and its exit code is 2; it is 1 where a check or
parity misses.

`make gpu` installs neither TensorRT nor onnxruntime-gpu. Put them into `.venv` before, the second in place of
onnxruntime: [on a server](gpu.md#drivers-and-packages), [on a Jetson](jetson.md#what-comes-from-where).

Models: MiniLM (its real weights), ViT-B/16 at 224 pixels and BERT-base (random weights). Throughput and latency are
from arrays on the host to vectors there, through our lanes, without tokenizer and scheduler. Ways take turns in rounds,
in an order drawn by lot; ratios are taken within a round. TF32 is off everywhere. PyTorch runs eagerly. Parity is
against the float32 graph on a CPU: the cosine gap is what the lowest cosine lacks of 1, batch invariance the same
between a row alone and among others. Shapes are rows x length.
"""
_NONE = """
## Results

**No GPU was at hand: nothing here has been measured on one.** All of it ran over a simulated GPU (`tests/gpu`), which
shows that it is right, and nothing about its speed.
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
    """Return the number as it is recorded, which says how many digits of it count."""
    return str(int(value)) if value == int(value) else repr(value)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""])


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)
