"""The recipe: a small TOML file that describes a bundle to build. Unknown keys are errors."""

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
    """The recipe's table `[step.NAME]`: a graph for the `steps` or the `chain` of towers.

    Attributes:
        module: `package.file:Factory` of the module, as in `TowerRecipe`. Name a module or an ONNX file.
        arguments: Arguments of the factory.
        weights: Safetensors file with the module's state.
        onnx: ONNX file, relative to the recipe.
        gives: Keys of the module's result, or names for its tensors in order. Of an ONNX file, empty takes all outputs.
        takes: Shapes of inputs whose size differs between towers, with a name in place of a varying size, such as
            `tokens = ["batch", "places", 32]`. Other inputs have the first tower's shapes.
    """

    module: str | None = None
    arguments: dict[str, Any] = {}
    weights: str | None = None
    onnx: str | None = None
    gives: tuple[str, ...] = ()
    takes: dict[str, tuple[int | str, ...]] = {}

    def __post_init__(self) -> None:
        """Raise ValueError unless the step has exactly one implementation."""
        if bool(self.module) == bool(self.onnx):
            raise ValueError("a step needs either module or onnx")
        if self.module and not self.gives:
            raise ValueError("a step with a module needs gives: the names of its tensors")


class TowerRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe's table `[tower.NAME]`. None takes the value at the top of the recipe, or else the source's.

    Keys from `module` on describe a custom tower of a torch module, an ONNX file or steps. Paths are relative to the
    recipe.

    Attributes:
        max_length: Most tokens of a string, as in `Recipe`.
        prompts: Prompts by name, as in `Recipe`.
        default_prompt: Name of the default prompt, as in `Recipe`.
        instruction: Text put before strings with an instruction, as in `Recipe`.
        dims: Sizes that vectors can be truncated to, as in `Recipe`.
        normalize: Whether to scale dense and multi_vector outputs to length 1.
        buckets: Lengths and batch sizes to measure at warm-up, as in the manifest.
        module: `package.file:Factory`, from the recipe's directory or installed. Called with `arguments`, it returns an
            nn.Module that takes the graph inputs by keyword. Towers with the same module, arguments and weights, or
            the same ONNX file, share one graph.
        arguments: Arguments of the factory.
        weights: Safetensors file with the module's state.
        onnx: ONNX file, instead of a module.
        steps: Names of `[step.NAME]` tables in order, instead of a module. Each reads results of the parts and of
            earlier steps by the names of its arguments.
        chain: A chain as in the manifest, with names of steps as its graphs; it needs a start.
        parts: Parts as in the manifest. A tokenizer is a file beside the recipe.
        dtypes: Dtypes of graph inputs that differ from those parts usually make.
        outputs: Outputs as in the manifest. `space` is a new name or one of the source's; `tensor` is a key of the
            module's result, or a new name if it returns tensors in order.
        samples: Items for the gate: a .jsonl or .npy file, a directory of media, or `package.file:function`, called
            with a count.
        preprocess: `package.file:function`, the original's preprocessing from an item to the module's inputs.
        original: `package.file:function`, the whole original, from an item to a mapping of outputs.
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
        """Raise ValueError for a custom tower with keys missing, or in conflict."""
        if bool(self.module) + bool(self.onnx) + bool(self.steps) > 1:
            raise ValueError("a tower has one of module, onnx and steps; remove the others")
        if self.custom and not (self.parts and self.outputs):
            raise ValueError("a tower with module, onnx or steps needs parts and outputs")
        if not self.custom and (self.parts or self.outputs):
            raise ValueError("parts and outputs need module, onnx or steps in the same tower")
        if self.normalize and self.custom and not self.module:
            raise ValueError("normalize needs a module; scale the outputs of an ONNX file or of steps in the graph")
        if self.chain is not None and (self.chain.start is None or not self.steps):
            raise ValueError("a chain needs start, the step for the first state, and steps for the last state")

    @property
    def custom(self) -> bool:
        """Whether this is a custom tower, not one of the source. A tower that pools a set needs no steps."""
        pools = any(part.set is not None and part.set.pool is not None for part in self.parts.values())
        return bool(self.module or self.onnx or self.steps or pools)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Tensors of the outputs, in order."""
        return tuple(dict.fromkeys(tensor for output in self.outputs.values() for tensor in output.tensors))


class SpaceRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe's table `[space.NAME]`: a space of custom towers, as in the manifest.

    Attributes:
        metric: How to compare vectors. None chooses by the kind of output.
        scale: Scale of a logit, scale * similarity + bias.
        bias: Bias of a logit.
        lineage: Ids of other spaces with compatible vectors.
    """

    metric: SpaceMetric | None = None
    scale: float = 1.0
    bias: float = 0.0
    lineage: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to build one bundle. None takes the source's value.

    Attributes:
        name: The model's name: letters, digits, `.`, `_` and `-`. On the command line it defaults to the source's.
        source: A directory, an ONNX file, a hub id, or `package:NAME/PATH` for files inside an installed package.
        version: The bundle's version.
        extends: A bundle directory, relative to the recipe. Export makes its next version, with these towers added.
            Steps can name its graphs, and outputs its spaces, by id or as `tower.output`.
        revision: Branch, tag or commit of a hub id.
        pooling: A pooling mode, or several to concatenate in order.
        max_length: Most tokens of a string, specials included.
        prompts: Prompts by name, added to the source's or replacing them.
        default_prompt: Name of the prompt for requests that name none.
        instruction: Text put before strings with an instruction, in place of the prompt, such as
            `Instruct: {instruction}\\nQuery:`.
        dims: Sizes that vectors can be truncated to, as trained. Empty allows any.
        normalize: Whether to scale vectors to length 1.
        precision: Precision of matrix products and convolutions; sensitive operations stay float32. Graphs of an
            extended bundle keep theirs.
        opset: ONNX opset of the graphs.
        corpus: File of passages for the gate, relative to the recipe: one a line, or JSONL with a `text` key.
        towers: Names of the source's towers to export. Empty exports all.
        tower: Settings of single towers, and custom towers, by name.
        step: Graphs that custom towers run in order or share, by name.
        space: Spaces of custom towers, by name.
        labels: Label sets as in the manifest, by name.
        gate: Thresholds and numbers of items of the gate.
        folder: The recipe's directory. Set by `load`.
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
        """Raise ValueError for an invalid name or version, or a recipe without towers."""
        for key, value in (("name", self.name), ("version", self.version)):
            if not _NAME.fullmatch(value):
                raise ValueError(f"{key} {value!r} is not possible: use letters, digits, '.', '_' and '-'")
        if not self.source and not any(tower.custom for tower in self.tower.values()):
            raise ValueError("set source, or a tower with module, onnx or steps")
        if both := self.step.keys() & self.tower.keys():
            raise ValueError(f"{min(both)!r} is both a step and a tower; rename one of them")

    @property
    def modes(self) -> tuple[PoolingMode, ...]:
        """The pooling modes; empty if the source decides."""
        if self.pooling is None:
            return ()
        return self.pooling if isinstance(self.pooling, tuple) else (self.pooling,)

    def of(self, tower: str) -> TowerRecipe:
        """Return a tower's options: its own table, completed from the top level."""
        spec = self.tower.get(tower, TowerRecipe())
        top: dict[str, Any] = {
            "max_length": self.max_length,
            "prompts": self.prompts or None,
            "default_prompt": self.default_prompt,
            "instruction": self.instruction,
            "dims": self.dims or None,
            "normalize": self.normalize if spec.module or not spec.custom else None,
        }
        return msgspec.structs.replace(spec, **{k: v for k, v in top.items() if getattr(spec, k) is None})


def load(path: Path | None, **overrides: Any) -> Recipe:
    """Read a recipe.

    Args:
        path: The TOML file; None for a recipe of overrides alone.
        overrides: Values that replace those of the file, unless None.

    Raises:
        InvalidInput: The file cannot be read, or is not TOML.
        ExportError: The values are not a valid recipe.
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


def _named(values: dict[str, Any], message: str) -> str:
    """Return msgspec's message with table names in its path in place of `[...]`."""
    what, at, path = message.partition(" - at `$.")
    values = copy.deepcopy(values)
    here: Any = values
    keys: list[str] = []
    for step in _STEP.findall(path.rstrip("`")):
        if step == "...":
            found = _culprit(values, here, message)
            if found is None:
                return message
            step = found
        keys.append(step)
        here = here[int(step) if isinstance(here, list) else step]
    return f"{what} - at `{'.'.join(keys)}`" if at else message


def _culprit(values: dict[str, Any], table: dict[str, Any], message: str) -> str | None:
    """Reduce a table to the entry at fault, and return its name."""
    entries = dict(table)
    for name, entry in entries.items():
        table.clear()
        table[name] = entry
        try:
            msgspec.convert(values, Recipe)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return name
    return None


def _next(base: str) -> dict[str, str]:
    """Return the name of a bundle, and its version with the last number increased. Raises BundleError."""
    there = Bundle.load(base, verify=False).manifest
    version = re.sub(r"\d+$", lambda found: str(int(found[0]) + 1), there.version)
    return {"name": there.name, "version": version if version != there.version else f"{version}-2"}


def _name_of(source: str) -> str:
    """Return a model name for a source: the last part of its path or id."""
    last = Path(source.removeprefix("package:")).stem if source.endswith(".onnx") else source.rstrip("/").split("/")[-1]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"
