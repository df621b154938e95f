"""Inputs: turn raw parts into arrays, one module per modality, imported when a tower needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from embedge.bundle import part_specs as prepare
from embedge.bundle.part_specs import Prepare
from embedge.config import RuntimeConfig
from embedge.errors import Unavailable
from embedge.inputs.base import PartInput

__all__ = ["PartInput", "open_part"]

# By type of prepare spec: the class that carries it out, and the extra that its libraries come with.
_CLASSES = {
    prepare.TextPrepare: ("embedge.inputs.text:TextInput", ""),
    prepare.ImagePrepare: ("embedge.inputs.image:ImageInput", "image"),
    prepare.AudioPrepare: ("embedge.inputs.audio:AudioInput", "audio"),
    prepare.VideoPrepare: ("embedge.inputs.video:VideoInput", "video"),
    prepare.TensorPrepare: ("embedge.inputs.tensor:TensorInput", ""),
    prepare.TablePrepare: ("embedge.inputs.table:TableInput", ""),
    prepare.VectorPrepare: ("embedge.inputs.vector:VectorInput", ""),
}


def open_part(spec: Prepare, config: RuntimeConfig, file: Callable[[str], Path]) -> PartInput:
    """Open the input of a part.

    Args:
        spec: prepare spec of the part.
        config: limits on media and images.
        file: finds a file of the bundle by name.

    Raises:
        Unavailable: a library of the modality isn't installed.
    """
    place, extra = _CLASSES[type(spec)]
    module, name = place.split(":")
    try:
        return cast(PartInput, getattr(importlib.import_module(module), name)(spec, config, file))
    except ModuleNotFoundError as error:
        if not extra:
            raise
        raise Unavailable(
            f"{extra} parts need {error.name}, which is missing; pip install 'embedge[{extra}]'"
        ) from error
