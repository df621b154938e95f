"""Plans that tests need, built in this process by our own builder."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from embedge import RuntimeConfig
from embedge.backends.base import BackendModel
from embedge.backends.tensorrt.keys import keys
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.record import CAPTURED, Plan, PlanRecord, write
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.calls.sets import towers
from embedge.cuda import Gpu
from embedge.inputs.items import ItemInput
from embedge_export.tensorrt.builder import Order, build

__all__ = ["GPU", "Here", "built", "keys_of", "model_of", "order_of"]

GPU = Gpu(
    index=0,
    name="Simulated GPU",
    capability=(8, 7),
    multiprocessors=16,
    memory=8 << 30,
    integrated=False,
    driver=13000,
    bus="0000:01:00.0",
)


def model_of(path: Path, config: RuntimeConfig | None = None) -> BackendModel:
    """Return all of a bundle as a backend is given it."""
    bundle, config = Bundle.load(path), config or RuntimeConfig()
    names = towers(bundle.manifest, config.towers)
    probes = Probes(bundle.manifest, {name: ItemInput.of(bundle, name, config).probe() for name in names})
    graphs = dict.fromkeys(graph for name in names for graph in bundle.manifest.towers[name].graphs)
    return BackendModel(bundle, config, tuple(graphs), probes)


def keys_of(model: BackendModel) -> dict[str, PlanKey]:
    """Return the keys of a model's plans on the simulated GPU."""
    return keys(model, GPU)


def order_of(model: BackendModel, graph: str) -> Order:
    """Return what the builder is told to build."""
    key = keys_of(model)[graph]
    return Order(graph, model.bundle.graph(graph), key.profiles, key.flags.level, key.flags.workspace)


def built(model: BackendModel, graph: str, tell: Callable[[str, str, int, int], None] = lambda *_: None) -> bytes:
    """Return a graph's plan."""
    return build(order_of(model, graph), tell, threading.Event())


class Here:
    """Stands in for `plans.build.Builder`: builds in this process and proves nothing."""

    def __init__(self, store: PlanStore, hear: Callable[..., None]) -> None:
        self._root = store.root

    def cancel(self) -> None: ...

    def build(
        self, bundle: Bundle, keys: Mapping[str, PlanKey], config: RuntimeConfig, *, force: bool = False
    ) -> dict[str, Plan]:
        model = model_of(bundle.path, config)
        return {graph: self._kept(graph, key, built(model, graph)) for graph, key in keys.items()}

    def _kept(self, graph: str, key: PlanKey, plan: bytes) -> Plan:
        folder = self._root / f"here-{key.digest()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan").write_bytes(plan)
        digest = hashlib.sha256(plan).hexdigest()
        facts = {"key": key, "model": "m", "graph": graph, "sha256": digest, "nbytes": len(plan)}
        record = PlanRecord(created="", seconds=0, figures={CAPTURED: 0.0}, **facts)  # type: ignore[arg-type]
        write(folder, record)
        return Plan(folder, record)
