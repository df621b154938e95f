"""Find the highest numbers of each row without sorting it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["leading"]


def leading(values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return which numbers (rows, width) are among the `count` highest of their row: exactly as many, or all.

    Of equal ones at the limit the earlier are taken, so that a row does not depend on the others.
    """
    if count >= values.shape[1]:
        return np.ones(values.shape, bool)
    limit = np.partition(values, -count, axis=1)[:, -count, None]
    above, level = values > limit, values == limit
    missing = count - above.sum(axis=1, keepdims=True)
    return above | (level & (np.cumsum(level, axis=1) <= missing))  # type: ignore[no-any-return]
