"""Plans that tests need, built in this process by our own builder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from embedge import RuntimeConfig
from embedge.backends.base import Model
from embedge.backends.tensorrt.keys import keys
from embedge.bundle import Bundle
from embedge.cuda import Gpu
from embedge.inputs.items import ItemInput
from embedge.plans.key import PlanKey
from embedge.probes import Probes
from embedge.sets import towers
from embedge_export.tensorrt.builder import Order, build

__all__ = ["GPU", "built", "keys_of", "model_of", "order_of"]

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


def model_of(path: Path, config: RuntimeConfig | None = None) -> Model:
    """Return all of a bundle as a backend is given it."""
    bundle, config = Bundle.load(path), config or RuntimeConfig()
    names = towers(bundle.manifest, config.towers)
    probes = Probes(bundle.manifest, {name: ItemInput(bundle, name, config).probe() for name in names})
    graphs = dict.fromkeys(graph for name in names for graph in bundle.manifest.towers[name].graphs)
    return Model(bundle, config, tuple(graphs), probes)


def keys_of(model: Model) -> dict[str, PlanKey]:
    """Return the keys of a model's plans on the simulated GPU."""
    return keys(model, GPU)


def order_of(model: Model, graph: str) -> Order:
    """Return what the builder is told to build."""
    key = keys_of(model)[graph]
    return Order(graph, model.bundle.graph(graph), key.profiles, key.flags.level, key.flags.workspace)


def built(model: Model, graph: str, tell: Callable[[str, str, int, int], None] = lambda *_: None) -> bytes:
    """Return a graph's plan."""
    return build(order_of(model, graph), tell, threading.Event())
