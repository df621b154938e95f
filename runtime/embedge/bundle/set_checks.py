"""What a part that is a set must be: its pieces have a tower and become vectors that the part can take."""

from __future__ import annotations

from embedge.bundle.need import need
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import TensorPrepare, TextPrepare, VectorPrepare
from embedge.bundle.records import Manifest, Part, SetSpec, Tower
from embedge.errors import BundleError

__all__ = ["check_set"]


def check_set(name: str, manifest: Manifest) -> None:
    """Refuse a tower's set whose pieces nothing embeds, or whose vectors its part cannot take. Raises BundleError."""
    sets = {part_name: part for part_name, part in manifest.towers[name].parts.items() if part.set is not None}
    if len(sets) > 1:
        raise BundleError(f"tower {name!r} has several parts that are sets, {', '.join(sets)}; one is possible")
    for part_name, part in sets.items():
        if part.set is not None:
            what = f"part {name}.{part_name}"
            _check_pieces(part.set, manifest, what)
            _check_fit(part, part.set, manifest.towers[part.set.tower], what)
            _check_ends(name, manifest, what)


def _check_pieces(spec: SetSpec, manifest: Manifest, what: str) -> None:
    need(spec.tower, manifest.towers, f"the set of {what}")
    tower = manifest.towers[spec.tower]
    need(spec.output, tower.outputs, f"the set of {what}")
    if spec.prompt is not None:
        texts = [part.prepare for part in tower.parts.values() if isinstance(part.prepare, TextPrepare)]
        need(spec.prompt, {prompt for text in texts for prompt in text.prompts}, f"the prompt of {what}")


def _check_fit(part: Part, spec: SetSpec, pieces: Tower, what: str) -> None:
    """Refuse vectors of pieces that the part does not take."""
    output, prepare = pieces.outputs[spec.output], part.prepare
    if not isinstance(output, DenseOutput):
        raise BundleError(f"{what} needs one vector a piece, which output {spec.output!r} is not")
    if spec.pool is not None:
        if not isinstance(prepare, VectorPrepare) or prepare.dim != output.dim:
            raise BundleError(f"{what} pools its pieces, so it must take vectors of {output.dim:,} numbers")
    elif (
        not isinstance(prepare, TensorPrepare)
        or prepare.dtype != "float32"
        or len(prepare.shape) != 2
        or not isinstance(prepare.shape[0], str)
        or prepare.shape[1] != output.dim
    ):
        raise BundleError(f"{what} is given all its pieces, so it must take a float32 tensor (pieces, {output.dim:,})")
    elif prepare.max_length < spec.max_pieces:
        raise BundleError(f"{what} lets in {spec.max_pieces:,} pieces, but its tensor takes {prepare.max_length:,}")


def _check_ends(name: str, manifest: Manifest, what: str) -> None:
    """Refuse pieces that are, in the end, sets of the tower itself."""
    seen: list[str] = []
    following: list[str] = [name]
    while following:
        tower = following.pop()
        if tower in seen:
            raise BundleError(f"the pieces of {what} would be embedded by the tower itself: {' of '.join(seen)}")
        seen.append(tower)
        parts = manifest.towers[tower].parts.values()
        following += [part.set.tower for part in parts if part.set is not None and part.set.tower in manifest.towers]
