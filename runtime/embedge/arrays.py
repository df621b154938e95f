"""Names for arrays in signatures. Docstrings give the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Floats"]

Array = NDArray[Any]
Floats = NDArray[np.float32]
