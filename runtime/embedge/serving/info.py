"""A model's description and statistics as messages."""

from __future__ import annotations

from embedge.bundle.manifest import LabelSet, Manifest, Space, Tower
from embedge.bundle.output_specs import CodesOutput, DenseOutput, MultiVectorOutput, Output, ScoresOutput, SparseOutput
from embedge.embedder import Embedder
from embedge.scheduling.cost_table import CostTable
from embedge.serving.parts import part_info
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.results import KINDS

__all__ = ["model_info", "model_stats", "model_summary"]


def model_summary(embedder: Embedder) -> pb.ModelSummary:
    """Return the model's line in a list."""
    return pb.ModelSummary(name=embedder.name, version=embedder.version, towers=sorted(embedder.manifest.towers))


def model_info(embedder: Embedder) -> pb.ModelInfo:
    """Describe the model: towers, spaces, limits, backend, certificate."""
    manifest = embedder.manifest
    return pb.ModelInfo(
        name=embedder.name,
        version=embedder.version,
        towers=[_tower(name, tower, embedder) for name, tower in manifest.towers.items()],
        spaces=[_space(space) for space in manifest.spaces.values()],
        backend=embedder.backend,
        backend_reason=embedder.backend_reason,
        certificate=_metrics(manifest),
        label_sets=[_label_set(*entry) for entry in manifest.label_sets.items()],
        device=embedder.device,
        batches_in_flight=embedder.max_in_flight,
        cuda_graphs=embedder.cuda_graphs,
    )


def model_stats(embedder: Embedder) -> pb.ModelStats:
    """Return the model's current work, its counters since the start, and its measured costs."""
    costs, split = {name: _cost(table) for name, table in embedder.costs.items()}, embedder.split
    return pb.ModelStats(
        name=embedder.name,
        version=embedder.version,
        serving=embedder.serving,
        figures=embedder.stats(),
        lanes=split.lanes,
        threads=split.threads,
        lanes_reason=split.reason,
        cost=next(iter(costs.values())),
        costs=costs,
    )


def _cost(table: CostTable) -> pb.CostTable:
    return pb.CostTable(rows=table.rows, lengths=table.lengths, seconds=[s for line in table.grid for s in line])


def _tower(name: str, tower: Tower, embedder: Embedder) -> pb.TowerInfo:
    return pb.TowerInfo(
        name=name,
        parts=[part_info(*entry, embedder.config) for entry in tower.parts.items()],
        outputs=[_output(*entry) for entry in tower.outputs.items()],
        loaded=name in embedder.towers,
    )


def _output(name: str, output: Output) -> pb.OutputInfo:
    info = pb.OutputInfo(name=name, kind=KINDS[output.kind], ragged=output.ragged)
    if isinstance(output, ScoresOutput):
        info.labels.extend(output.labels)
        return info
    info.space, info.dim = output.space, output.dim
    if isinstance(output, (DenseOutput, MultiVectorOutput)):
        info.normalized = output.normalized
        info.dims.extend(output.dims)
    elif isinstance(output, SparseOutput):
        info.top = output.top or 0
    elif isinstance(output, CodesOutput):
        info.form = output.form
    return info


def _space(space: Space) -> pb.SpaceInfo:
    return pb.SpaceInfo(
        id=space.id, dim=space.dim, metric=space.metric, lineage=space.lineage, scale=space.scale, bias=space.bias
    )


def _label_set(name: str, labels: LabelSet) -> pb.LabelSetInfo:
    return pb.LabelSetInfo(
        name=name,
        tower=labels.tower,
        output=labels.output,
        labels=len(labels.labels),
        templates=len(labels.templates),
        scores=labels.scores,
    )


def _metrics(manifest: Manifest) -> list[pb.FigureInfo]:
    metrics = manifest.certificate.metrics if manifest.certificate else {}
    return [
        pb.FigureInfo(name=name, value=metric.value, limit=metric.threshold, passed=metric.passed)
        for name, metric in metrics.items()
    ]
