"""What a tower's chain must be: a module for each part, and one state that all of them pass on."""

from __future__ import annotations

from collections.abc import Collection

from embedge.bundle.need import need
from embedge.bundle.records import Chain, Manifest, Tower
from embedge.errors import BundleError

__all__ = ["check_chain", "check_trail"]


def check_chain(chain: Chain, tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse a chain whose modules are not those of the parts, or do not pass on one state. Raises BundleError."""
    if chain.modules.keys() != tower.parts.keys():
        raise BundleError(f"the chain of {what} does not have one module for each of its parts")
    shapes = set()
    for part, graph in chain.modules.items():
        need(graph, manifest.graphs, f"the chain of {what}")
        inputs = {spec.name: spec.shape[1:] for spec in manifest.graphs[graph].inputs}
        for name in sorted({*tower.parts[part].fills(), chain.takes} ^ inputs.keys()):
            raise BundleError(f"the module {graph!r} of {what} and what is prepared for it differ in {name!r}")
        _need_state(chain, graph, manifest, what)
        shapes.add(inputs[chain.takes])
    if len(shapes) > 1 or any(isinstance(size, str) for size in next(iter(shapes))):
        raise BundleError(f"the modules of {what} do not take a state of one fixed size")
    if chain.start is not None:
        need(chain.start, manifest.graphs, f"the chain of {what}")
        _need_state(chain, chain.start, manifest, what)
        if manifest.graphs[chain.start].inputs:
            raise BundleError(f"the chain of {what} starts with a graph that has inputs")
    if chain.order in {spec.name for graph in tower.graphs for spec in manifest.graphs[graph].inputs}:
        raise BundleError(f"the order of the chain of {what} has the name of a graph's input, {chain.order!r}")


def check_trail(chain: Chain, made: Collection[str], what: str) -> set[str]:
    """Return the tensors that a chain makes of those that the steps made. Raises BundleError."""
    for tensor in chain.trail.values():
        need(tensor, made, f"the trail of {what}")
    return {*chain.trail, chain.keep}


def _need_state(chain: Chain, graph: str, manifest: Manifest, what: str) -> None:
    need(chain.gives, {spec.name for spec in manifest.graphs[graph].outputs}, f"the graph {graph!r} of {what}")
