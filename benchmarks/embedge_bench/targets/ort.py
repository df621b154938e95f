"""The upper bound: the bundle's graph in plain ONNX Runtime, with no queue, server or scheduler.

`ort:PATH` runs one text at a time; `ort:PATH?batch=8&sort=1` runs batches of similar lengths, impossible for a server:
it can't see all texts in advance. Tokenising is included. There is always one caller: the graph has all cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import msgspec

from embedge import outputs
from embedge.backends import Arrays, PendingArrays
from embedge.batches.batch import layout, pad
from embedge.bundle import Bundle
from embedge.bundle.output_specs import DenseOutput
from embedge.config import RuntimeConfig
from embedge.errors import BundleError, EmbedgeError, Unavailable
from embedge.inputs.items import ItemInput
from embedge.lanes.program import Program
from embedge.request import Request
from embedge_bench.results import TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.base import Counters, Target, TargetReply

__all__ = ["OnnxRuntime", "make"]


class OrtOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the address. threads: of the graph; default: all cores."""

    batch: int = 1
    sort: bool = False
    threads: int | None = None
    tower: str | None = None


class OnnxRuntime(Target):
    """One session a graph, run in the caller's thread."""

    def __init__(self, spec: Spec, bundle: Bundle, options: OrtOptions) -> None:
        manifest = bundle.manifest
        name = options.tower or next(iter(manifest.towers))
        if name not in manifest.towers:
            raise BundleError(f"{bundle.path}: has no tower {name!r}; it has: {', '.join(manifest.towers)}")
        self.batch, self.sort, self.callers = options.batch, options.sort, 1
        self._spec, self._bundle, self._tower = spec, bundle, name
        self._inputs = ItemInput.of(bundle, name, RuntimeConfig(max_text_bytes=1 << 30))
        self._layout = layout(manifest, manifest.towers[name])
        output = next(iter(manifest.towers[name].outputs.values()))
        if not isinstance(output, DenseOutput):
            raise BundleError(f"{bundle.path}: the first output of tower {name!r} is not dense")
        self._output = output
        threads = options.threads or os.cpu_count() or 1
        graphs = manifest.towers[name].graphs
        self._program = Program(manifest, {graph: _OrtSession(bundle, graph, threads) for graph in graphs})
        self._lock = threading.Lock()  # held by a caller while its batch runs, should there be more than one
        self._done = Counters(queue=0, batches=0, rows=0, computed=0)

    def info(self) -> TargetInfo:
        """Describe the target."""
        import onnxruntime

        how = f"{'length-sorted ' if self.sort else ''}batches of {self.batch}" if self.batch != 1 else "batch 1"
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind="raw ONNX Runtime",
            model=self._bundle.manifest.name,
            version=self._bundle.manifest.version,
            backend=f"onnxruntime {onnxruntime.__version__}",
            note=f"{how}, one caller whatever the load",
            in_process=True,
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors of one batch."""
        rows = self._inputs.prepare(texts, Request(items=(), truncate=True))
        good = [row for row in rows if not isinstance(row, EmbedgeError)]
        for row in rows:
            if isinstance(row, EmbedgeError):
                raise row
        lengths = [self._inputs.length(row) for row in good]
        with self._lock:
            _, tensors = self._program.run([self._tower] * len(good), pad(good, self._layout))[self._tower]
            self._count(len(good), len(good) * max(lengths))
        raw = tensors[self._output.tensor].astype("float32", copy=False)
        vectors = outputs.finish(raw, self._output, dim=self._output.dim, dtype="float32")
        return TargetReply(vectors.values, sum(lengths))

    def counters(self) -> Counters:
        """Return its counters."""
        return self._done

    def close(self) -> None:
        """Close the sessions."""
        self._program.close()

    def _count(self, rows: int, computed: int) -> None:
        done = self._done
        self._done = Counters(
            queue=0,
            batches=(done.batches or 0) + 1,
            rows=(done.rows or 0) + rows,
            computed=(done.computed or 0) + computed,
        )


class _OrtSession:
    """A graph with ONNX Runtime's default settings, except for the number of threads."""

    def __init__(self, bundle: Bundle, graph: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise Unavailable("onnxruntime is not installed; pip install 'embedge[bench]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        path = str(bundle.graph(graph))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def start(self, feeds: Arrays) -> PendingArrays:
        outputs = dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))
        return lambda: outputs

    def close(self) -> None:
        self._session = None


def make(spec: Spec) -> OnnxRuntime:
    """Open the bundle's graphs. Raises EmbedgeError."""
    return OnnxRuntime(spec, Bundle.load(spec.rest), spec.convert(OrtOptions))
