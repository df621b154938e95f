"""Silence around libraries that talk: their warnings, log lines and progress bars say nothing about our export."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings, log records below critical and progress bars of what runs inside. Errors still come through."""
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
    except ImportError:  # nothing there that could draw bars
        return
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers is untyped there
