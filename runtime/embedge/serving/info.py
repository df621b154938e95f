"""What a model says about itself over the wire."""

from __future__ import annotations

from embedge.embedder import Embedder
from embedge.manifest import Manifest, Part, Tower
from embedge.v1 import embedge_pb2 as pb

__all__ = ["model_info", "model_stats", "model_summary"]


def model_summary(embedder: Embedder) -> pb.ModelSummary:
    """Return the model's line in a list."""
    return pb.ModelSummary(name=embedder.name, version=embedder.version, towers=sorted(embedder.manifest.towers))


def model_info(embedder: Embedder) -> pb.ModelInfo:
    """Return all that a client may want to know: towers, spaces, limits, backend, certificate."""
    manifest = embedder.manifest
    return pb.ModelInfo(
        name=embedder.name,
        version=embedder.version,
        towers=[_tower(name, tower) for name, tower in manifest.towers.items()],
        spaces=[
            pb.SpaceInfo(id=space.id, dim=space.dim, metric=space.metric, lineage=space.lineage)
            for space in manifest.spaces.values()
        ],
        backend=embedder.backend,
        backend_reason=embedder.backend_reason,
        certificate=_figures(manifest),
    )


def model_stats(embedder: Embedder) -> pb.ModelStats:
    """Return what the model does now, did since its start, and what it has learned of its costs."""
    cost, slots = embedder.cost, embedder.slots
    return pb.ModelStats(
        name=embedder.name,
        version=embedder.version,
        serving=embedder.serving,
        figures=embedder.stats(),
        lanes=slots.lanes,
        threads=slots.threads,
        lanes_reason=slots.reason,
        cost=pb.CostTable(rows=cost.rows, lengths=cost.lengths, seconds=[s for line in cost.grid for s in line]),
    )


def _tower(name: str, tower: Tower) -> pb.TowerInfo:
    outputs = [
        pb.OutputInfo(
            name=output_name,
            kind=pb.KIND_DENSE,
            space=output.space,
            dim=output.dim,
            normalized=output.normalized,
            dims=output.dims,
        )
        for output_name, output in tower.outputs.items()
    ]
    return pb.TowerInfo(name=name, parts=[_part(*entry) for entry in tower.parts.items()], outputs=outputs)


def _part(name: str, part: Part) -> pb.PartInfo:
    spec = part.prepare
    return pb.PartInfo(
        name=name, modality="text", optional=part.optional, max_length=spec.max_length, prompts=sorted(spec.prompts)
    )


def _figures(manifest: Manifest) -> list[pb.FigureInfo]:
    figures = manifest.certificate.figures if manifest.certificate else {}
    return [
        pb.FigureInfo(name=name, value=figure.value, limit=figure.limit, passed=figure.passed)
        for name, figure in figures.items()
    ]
