"""Silences warnings, log lines and progress bars of other libraries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings, logging and progress bars in the block. Errors still propagate."""
    disabled = logging.root.manager.disable
    bars = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _no_bars()
            yield
    finally:
        logging.disable(disabled)
        if bars is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]


def _no_bars() -> None:
    try:
        from transformers.utils import logging as transformers_logging
    except ImportError:  # without transformers, no bars
        return
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers is untyped there
