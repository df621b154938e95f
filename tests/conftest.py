"""What holds for all tests: what a start measures is kept for the run, and not in the user's own cache."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before torch is there: models are tiny and tests run beside each other, so that its threads would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
