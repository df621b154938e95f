"""Keys, records and builders as the tests of plans use them."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from embedge.backends.tensorrt.plans.build import Builder
from embedge.backends.tensorrt.plans.key import BuildDevice, BuildFlags, PlanKey
from embedge.backends.tensorrt.plans.record import Plan, PlanRecord
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.batches.shapes import Range

STANDIN = Path(__file__).with_name("standin.py")
DEVICE = BuildDevice(
    gpu="Orin",
    capability=(8, 7),
    multiprocessors=8,
    memory=8,
    integrated=True,
    driver=12060,
    release="540",
    l4t="36.4",
    power="0002",
    system="linux-aarch64",
)


def key(graph: str = "text", **changes: Any) -> PlanKey:
    """Return a key; each graph has its own."""
    made = PlanKey(
        graph=hashlib.sha256(graph.encode()).hexdigest(),
        precision="float16",
        profiles=({"ids": Range((1, 1), (8, 16), (64, 32))},),
        tensorrt="10.3.0.30",
        cuda="12.6",
        device=DEVICE,
        flags=BuildFlags(level=3, workspace=1 << 30),
    )
    return replace(made, **changes)


def keys(*graphs: str) -> dict[str, PlanKey]:
    return {graph: key(graph) for graph in graphs or ("text",)}


def record(key: PlanKey, plan: bytes = b"a plan", **changes: Any) -> PlanRecord:
    made = PlanRecord(
        key=key,
        model="tiny 1",
        graph="text",
        created="2026-11-21T00:00:00+00:00",
        seconds=2.5,
        sha256=hashlib.sha256(plan).hexdigest(),
        nbytes=len(plan),
    )
    return replace(made, **changes)


def kept(store: PlanStore, key: PlanKey, plan: bytes = b"a plan") -> Plan:
    """Put a plan into the store as a builder's."""
    file = store.root.with_name("written")
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_bytes(plan)
    return store.keep(record(key, plan), file)


def builder(store: PlanStore, on_message: Any = lambda message: None, *, grace: float = 60.0, **script: str) -> Builder:
    """Return a builder whose child is the stand-in. script: by graph what it does."""
    return Builder(store, on_message, command=(sys.executable, str(STANDIN), json.dumps(script)), grace=grace)
