"""A pytest plugin in the process that runs a mutant: writes down the test that runs, and ends it all at a failure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

__all__ = ["CURRENT"]

CURRENT = "EMBEDGE_MUTANT_CURRENT"  # the variable with the file that names the test


def pytest_runtest_logstart(nodeid: str) -> None:
    Path(os.environ[CURRENT]).write_text(nodeid, encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _end(report.longreprtext)


@pytest.hookimpl(trylast=True)
def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _end(report.longreprtext)


def _end(text: str) -> None:
    """End the process at once: a mutant may leave threads that nothing else ends."""
    sys.__stderr__.write(text)  # type: ignore[union-attr]
    sys.__stderr__.flush()  # type: ignore[union-attr]
    os._exit(1)
