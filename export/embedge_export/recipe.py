"""The recipe: a small TOML file that says how to build a bundle. Unknown keys are refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from embedge import toml
from embedge.bundle import Bundle
from embedge.bundle.manifest import Buckets, Chain, LabelSet, Part
from embedge.bundle.output_specs import Output
from embedge.bundle.records import SpaceMetric
from embedge_export.errors import ExportError
from embedge_export.thresholds import Gate, Precision

__all__ = [
    "POOLING",
    "Gate",
    "PoolingMode",
    "Recipe",
    "SpaceMetric",
    "SpaceRecipe",
    "StepRecipe",
    "TowerRecipe",
    "load",
]


PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken"]
POOLING: tuple[str, ...] = get_args(PoolingMode)

_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STEP = re.compile(r"\.\.\.|[^.\[\]]+")


class StepRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the table `[step.NAME]` says: a graph that towers name in their `steps` or their `chain`.

    module, arguments, weights, onnx: as in `TowerRecipe`. gives: keys of what the module returns, or names for the
    tensors that it returns in order; of an ONNX file, all that it gives. takes: shapes of inputs that towers make of
    several sizes, e.g. `tokens = ["batch", "places", 32]`: what is a name may vary. Others are of the first tower's.
    """

    module: str | None = None
    arguments: dict[str, Any] = {}
    weights: str | None = None
    onnx: str | None = None
    gives: tuple[str, ...] = ()
    takes: dict[str, tuple[int | str, ...]] = {}

    def __post_init__(self) -> None:
        """Refuse a step of nothing, or of two things."""
        if bool(self.module) == bool(self.onnx):
            raise ValueError("a step is of a module or of an ONNX file: name one")
        if self.module and not self.gives:
            raise ValueError("gives has to name the tensors that the module returns")


class TowerRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the table `[tower.NAME]` says of one tower. None means: as the recipe's top, or the source, says.

    max_length, prompts, default_prompt, instruction, dims, normalize: as in `Recipe`. buckets: as in the manifest.

    The rest makes a tower of one's own, of a torch module or an ONNX file. Paths are relative to the recipe.
    module: `package.file:Factory`, from the recipe's directory or installed; called with `arguments`, it returns an
    nn.Module that takes the graph inputs by keyword. weights: a safetensors file of its state.
    onnx: the file. Towers that name the same module with the same arguments and weights, or the same file, share it.
    steps: or else names of `[step.NAME]` tables, in order: each takes what the parts and the steps before it make, by
    the names of its arguments. chain: as in the manifest, its graphs names of steps; it needs a start.
    parts: in the manifest's words; a tokenizer is a file beside the recipe. dtypes: of graph inputs, where they are not
    what parts usually make. outputs: in the manifest's words, but `space` is a name of one's own, or one of the
    source's; `tensor` is a key of what the module returns, or a name of one's own where it returns tensors in order.
    normalize: scale dense and multi_vector outputs to length 1.
    samples: items for the gate: a .jsonl or .npy file, a directory of media, or `package.file:function`, which is
    given a count. preprocess: `package.file:function`, the original's own way from an item to the module's inputs.
    original: `package.file:function`, the whole original: from an item to a mapping of outputs.
    """

    max_length: _AtLeastOne | None = None
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None
    instruction: str | None = None
    dims: tuple[_AtLeastOne, ...] | None = None
    normalize: bool | None = None
    buckets: Buckets | None = None
    module: str | None = None
    arguments: dict[str, Any] = {}
    weights: str | None = None
    onnx: str | None = None
    steps: tuple[str, ...] = ()
    chain: Chain | None = None
    parts: dict[str, Part] = {}
    dtypes: dict[str, str] = {}
    outputs: dict[str, Output] = {}
    samples: str | None = None
    preprocess: str | None = None
    original: str | None = None

    def __post_init__(self) -> None:
        """Refuse towers of one's own that do not say enough, or too much."""
        if bool(self.module) + bool(self.onnx) + bool(self.steps) > 1:
            raise ValueError("a tower is of a module, of an ONNX file or of steps: name one of them")
        if self.custom and not (self.parts and self.outputs):
            raise ValueError("a tower of a module, an ONNX file or steps needs parts and outputs")
        if not self.custom and (self.parts or self.outputs):
            raise ValueError("parts and outputs are for towers of a module, an ONNX file or steps; name one")
        if self.normalize and self.custom and not self.module:
            raise ValueError("outputs of an ONNX file, or of steps, are taken as they are; normalize is for modules")
        if self.chain is not None and (self.chain.start is None or not self.steps):
            raise ValueError("a chain needs a start, the step that gives the first state, and steps that read the last")

    @property
    def custom(self) -> bool:
        """Whether this is a tower of one's own, and not one of the source. One that pools a set needs no steps."""
        pools = any(part.set is not None and part.set.pool is not None for part in self.parts.values())
        return bool(self.module or self.onnx or self.steps or pools)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that the outputs are read from, in the order in which the outputs name them."""
        return tuple(dict.fromkeys(tensor for output in self.outputs.values() for tensor in output.tensors))


class SpaceRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the table `[space.NAME]` says of a space of towers of one's own; all as in the manifest."""

    metric: SpaceMetric | None = None
    scale: float = 1.0
    bias: float = 0.0
    lineage: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to build one bundle. None means: as the source says.

    source: a directory, an ONNX file, a hub id, or `package:NAME/PATH` for files inside an installed package.
    revision: branch, tag or commit of a hub id.
    pooling: one mode, or several whose vectors are concatenated in this order.
    max_length: most tokens of a text, specials included.
    prompts, default_prompt: added to the source's own, or in their place.
    instruction: what is put before a text that comes with an instruction of its own, in place of the prompt, e.g.
    `Instruct: {instruction}\\nQuery:`.
    dims: sizes the vectors were trained to be cut to; empty: any.
    normalize: scale vectors to length 1.
    precision: of matrix products and convolutions; what is sensitive stays float32. Not of graphs that are extended.
    corpus: a file of passages for the gate, a line each, or JSONL with a `text` key; relative to the recipe.
    towers: which of the source's towers are exported; empty: all. tower: more about single towers, and towers of one's
    own. step: graphs that towers of one's own run one after the other, or share. space: more about spaces of towers of
    one's own. labels: label sets, in the manifest's words.
    extends: a bundle directory, relative to the recipe: a new version of it is made, with these towers added. Steps may
    name its graphs, spaces its spaces by id or as `tower.output`. name and version are then its own, and the next one.
    folder: where the recipe lies; `load` sets it.
    """

    name: str
    source: str = ""
    version: str = "1"
    extends: str = ""
    revision: str | None = None
    pooling: PoolingMode | tuple[PoolingMode, ...] | None = None
    max_length: _AtLeastOne | None = None
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    instruction: str | None = None
    dims: tuple[_AtLeastOne, ...] = ()
    normalize: bool | None = None
    precision: Precision = "float32"
    opset: Annotated[int, msgspec.Meta(ge=18, le=20)] = 20
    corpus: str | None = None
    towers: tuple[str, ...] = ()
    tower: dict[str, TowerRecipe] = {}
    step: dict[str, StepRecipe] = {}
    space: dict[str, SpaceRecipe] = {}
    labels: dict[str, LabelSet] = {}
    gate: Gate = Gate()
    folder: str = ""

    def __post_init__(self) -> None:
        """Refuse names that are no plain directory names."""
        for key, value in (("name", self.name), ("version", self.version)):
            if not _NAME.fullmatch(value):
                raise ValueError(f"{key} {value!r} is not possible: use letters, digits, '.', '_' and '-'")
        if not self.source and not any(tower.custom for tower in self.tower.values()):
            raise ValueError("name a source, or a tower with a module, an onnx file or steps")
        if both := self.step.keys() & self.tower.keys():
            raise ValueError(f"{min(both)!r} is a step and a tower; give one of them another name")

    @property
    def modes(self) -> tuple[PoolingMode, ...]:
        """The pooling modes named here; none if the source decides."""
        if self.pooling is None:
            return ()
        return self.pooling if isinstance(self.pooling, tuple) else (self.pooling,)

    def of(self, tower: str) -> TowerRecipe:
        """Return what is said of a tower, in its own table or else at the top."""
        said = self.tower.get(tower, TowerRecipe())
        top: dict[str, Any] = {
            "max_length": self.max_length,
            "prompts": self.prompts or None,
            "default_prompt": self.default_prompt,
            "instruction": self.instruction,
            "dims": self.dims or None,
            "normalize": self.normalize if said.module or not said.custom else None,
        }
        return msgspec.structs.replace(said, **{k: v for k, v in top.items() if getattr(said, k) is None})


def load(path: Path | None, **overrides: Any) -> Recipe:
    """Read a recipe; `overrides` that are not None take the place of its values.

    Raises InvalidInput for a file that is no TOML, ExportError for one that is no recipe.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = toml.read(path)
        if isinstance(values.get("corpus"), str):
            values["corpus"] = str(path.parent / values["corpus"])
        if isinstance(values.get("extends"), str):
            values["extends"] = str(path.parent / values["extends"])
        values["folder"] = str(path.parent)
    values |= {key: value for key, value in overrides.items() if value is not None}
    where = str(path) if path else "the command line"
    if isinstance(base := values.get("extends"), str) and base:
        values = {**_next(base), **values}
    if "name" not in values and "source" in values:
        values["name"] = _name_of(str(values["source"]))
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise ExportError(f"{where}: not a valid recipe: {_named(values, str(error))}") from error


def _named(values: dict[str, Any], told: str) -> str:
    """Return msgspec's message with the names of the tables in its path, where msgspec writes `[...]`."""
    what, at, path = told.partition(" - at `$.")
    values = copy.deepcopy(values)
    here: Any = values
    keys: list[str] = []
    for step in _STEP.findall(path.rstrip("`")):
        if step == "...":
            found = _culprit(values, here, told)
            if found is None:
                return told
            step = found
        keys.append(step)
        here = here[int(step) if isinstance(here, list) else step]
    return f"{what} - at `{'.'.join(keys)}`" if at else told


def _culprit(values: dict[str, Any], table: dict[str, Any], told: str) -> str | None:
    """Leave in a table of the values only the entry that the message is about, and return its name."""
    entries = dict(table)
    for name, entry in entries.items():
        table.clear()
        table[name] = entry
        try:
            msgspec.convert(values, Recipe)
        except msgspec.ValidationError as error:
            if str(error) == told:
                return name
    return None


def _next(base: str) -> dict[str, str]:
    """Return name and version of what extends a bundle: the version's last number and one more. Raises BundleError."""
    there = Bundle.load(base, verify=False).manifest
    version = re.sub(r"\d+$", lambda found: str(int(found[0]) + 1), there.version)
    return {"name": there.name, "version": version if version != there.version else f"{version}-2"}


def _name_of(source: str) -> str:
    """Return a model name for a source that has no recipe: the last part of its path or id."""
    last = Path(source.removeprefix("package:")).stem if source.endswith(".onnx") else source.rstrip("/").split("/")[-1]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"
