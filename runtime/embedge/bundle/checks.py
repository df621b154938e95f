"""What a manifest must be besides well-formed: whatever it names is there, and nothing contradicts itself."""

from __future__ import annotations

from embedge.bundle.chain_checks import check_chain, check_trail
from embedge.bundle.need import need
from embedge.bundle.output_specs import CodesOutput, DenseOutput, MultiVectorOutput, Output, ScoresOutput
from embedge.bundle.part_specs import (
    FarthestPoints,
    ImagePrepare,
    Prepare,
    Resize,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    VideoPrepare,
)
from embedge.bundle.records import LabelSet, Manifest, Part, Tower
from embedge.bundle.set_checks import check_set
from embedge.errors import BundleError

__all__ = ["check"]


def check(manifest: Manifest) -> None:
    """Raise BundleError for a manifest whose parts name what it does not hold."""
    if not manifest.towers:
        raise BundleError("the manifest has no towers")
    need(manifest.golden, manifest.files, "golden")
    for name, tower in manifest.towers.items():
        for part_name, part in tower.parts.items():
            _check_prepare(part.prepare, tower, manifest, f"part {name}.{part_name}")
        if tower.chain is not None:
            check_chain(tower.chain, tower, manifest, f"tower {name!r}")
        _check_steps(tower, manifest, f"tower {name!r}")
        for part_name, part in tower.parts.items():
            _check_absence(part, tower, manifest, f"part {name}.{part_name}")
        check_set(name, manifest)
        for output_name, output in tower.outputs.items():
            _check_output(output, manifest, f"output {name}.{output_name}")
    for name, labels in manifest.label_sets.items():
        _check_labels(labels, manifest, f"label set {name!r}")


def _check_prepare(prepare: Prepare, tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse a prepare spec that contradicts itself or names what is not there."""
    longest = max(tower.buckets.lengths)
    if not set(prepare.carriers) & set(prepare.inputs):
        raise BundleError(f"{what} maps no graph input to {' or '.join(map(repr, prepare.carriers))}")
    if isinstance(prepare, TextPrepare):
        need(prepare.tokenizer, manifest.files, what)
        if prepare.default_prompt:
            need(prepare.default_prompt, prepare.prompts, f"default_prompt of {what}")
        if prepare.default_language is not None:
            need(prepare.default_language, prepare.languages, f"default_language of {what}")
        if len(tower.parts) == 1 and longest > prepare.max_length:
            raise BundleError(f"buckets go up to length {longest:,}, {what} to {prepare.max_length:,}")
        if prepare.instruction is not None and "{instruction}" not in prepare.instruction:
            raise BundleError(f"the instruction of {what} has no place for it: {{instruction}}")
    elif isinstance(prepare, (ImagePrepare, VideoPrepare)):
        image = prepare.image if isinstance(prepare, VideoPrepare) else prepare
        _check_tiles(image, what, single=image is prepare)
        _check_end(image, what)
    elif isinstance(prepare, TensorPrepare):
        _check_tensor(prepare, what)
    elif isinstance(prepare, TablePrepare):
        _check_table(prepare, what)


def _check_absence(part: Part, tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse an optional part that a graph would take for zeros, and a presence that is not a number for each row."""
    if part.optional and not part.shows_absence and tower.chain is None:  # which leaves an absent part's module out
        raise BundleError(
            f"{what} is optional, but no graph can see whether it is there; map one of its masks, or name its presence"
        )
    for step in tower.graphs if part.presence is not None else ():
        for spec in manifest.graphs[step].inputs:
            if spec.name == part.presence and len(spec.shape) != 1:
                raise BundleError(f"the presence of {what} is a number for each row, but {step!r} wants {spec.shape}")


def _check_end(image: ImagePrepare, what: str) -> None:
    """Raise BundleError unless the last step gives every image the size that the graph takes, or tiles of it."""
    if image.tiles is not None:
        return
    last = image.steps[-1] if image.steps else None
    varies = last is None or (isinstance(last, Resize) and last.fit != "exact")
    if varies or last is None or (last.height, last.width) != (image.height, image.width):
        raise BundleError(
            f"the steps of {what} do not end at {image.height} x {image.width} for every image; "
            "end them with an exact resize, a centre crop or a pad of that size, and export the bundle again"
        )


def _check_tiles(image: ImagePrepare, what: str, *, single: bool) -> None:
    """Refuse tiles of what else has one size, and inputs of tiles where there are none."""
    if image.tiles is None:
        if {"mask", "grid"} & set(image.inputs):
            raise BundleError(f"{what} maps a mask or a grid, but its images are not cut into tiles")
    elif image.steps or not single:
        raise BundleError(f"{what} has tiles, which only images have that go through no steps")
    elif image.tiles.max_pixels < max(image.tiles.edge**2, image.tiles.min_pixels):
        raise BundleError(f"the tiles of {what} have no room: max_pixels is less than min_pixels, or than one tile")


def _check_tensor(prepare: TensorPrepare, what: str) -> None:
    if any(isinstance(size, str) for size in prepare.shape[1:]):
        raise BundleError(f"the shape of {what} has a symbol that is not its first axis")
    if prepare.minimum is not None and prepare.maximum is not None and prepare.minimum > prepare.maximum:
        raise BundleError(f"{what} takes numbers from {prepare.minimum} to {prepare.maximum}, which are none")
    if prepare.missing == "mask" and "observed" not in prepare.inputs:
        raise BundleError(f"{what} lets numbers be missing, but maps no graph input to 'observed'")
    for step in prepare.steps:
        if not prepare.shape or not prepare.dtype.startswith("float") or "observed" in prepare.inputs:
            raise BundleError(f"the steps of {what} need rows of floats, and no input 'observed'")
        width = prepare.shape[1] if len(prepare.shape) == 2 else 0
        if isinstance(step, FarthestPoints) and (isinstance(width, str) or width < 3):
            raise BundleError(f"farthest_points of {what} needs the shape (points, 3 or more)")


def _check_table(prepare: TablePrepare, what: str) -> None:
    names = [column.name for column in prepare.columns]
    if len(set(names)) < len(names):
        raise BundleError(f"{what} has two columns of one name")
    if twice := [column.name for column in prepare.columns if len(set(column.categories)) < len(column.categories)]:
        raise BundleError(f"column {twice[0]!r} of {what} lists a category twice")
    for role, there in (
        ("numbers", any(not column.categories for column in prepare.columns)),
        ("categories", any(column.categories for column in prepare.columns)),
    ):
        if there != (role in prepare.inputs):
            raise BundleError(f"{what} must map a graph input to {role!r} if it has such columns, and only then")


def _check_steps(tower: Tower, manifest: Manifest, what: str) -> None:
    """Refuse steps that read what nothing makes, prepared arrays that no step reads, outputs that no step makes."""
    prepared = {name for part in tower.parts.values() for name in part.fills()}
    if len(prepared) < sum(len(part.fills()) for part in tower.parts.values()):
        raise BundleError(f"two parts of {what} are prepared for one graph input")
    if tower.chain is not None:
        prepared = {tower.chain.takes}
    read: set[str] = set()
    made: set[str] = set()
    for step in tower.steps:
        need(step, manifest.graphs, what)
        for spec in manifest.graphs[step].inputs:
            need(spec.name, prepared | made, f"an input of step {step!r} of {what}")
            read.add(spec.name)
        made |= {spec.name for spec in manifest.graphs[step].outputs}
    if tower.chain is not None:
        made |= check_trail(tower.chain, made, what)
    for output_name, output in tower.outputs.items():
        for tensor in output.tensors:
            need(tensor, prepared | made, f"output {output_name!r} of {what}")
            read.add(tensor)
    for name in sorted(prepared):
        need(name, read, f"a prepared input of {what}")


def _check_output(output: Output, manifest: Manifest, what: str) -> None:
    if isinstance(output, ScoresOutput):
        return
    need(output.space, manifest.spaces, what)
    dims = output.dims if isinstance(output, (DenseOutput, MultiVectorOutput)) else ()
    if too_large := [dim for dim in dims if dim > output.dim]:
        raise BundleError(f"{what} lists the size {too_large[0]:,}, but its vectors have {output.dim:,}")
    if isinstance(output, CodesOutput) and output.form == "bits" and output.dim % 8:
        raise BundleError(f"{what} has {output.dim:,} bits, which do not fill whole bytes")


def _check_labels(labels: LabelSet, manifest: Manifest, what: str) -> None:
    need(labels.tower, manifest.towers, what)
    tower = manifest.towers[labels.tower]
    need(labels.output, tower.outputs, what)
    if not isinstance(tower.outputs[labels.output], DenseOutput):
        raise BundleError(f"{what} needs an output of one vector an item, which {labels.output!r} is not")
    if bad := [template for template in labels.templates if "{}" not in template]:
        raise BundleError(f"the template {bad[0]!r} of {what} has no place for the label: {{}}")
