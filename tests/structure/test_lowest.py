"""The lower bounds in pyproject.toml, and what `make test-lowest` makes of them."""

from __future__ import annotations

import re

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.structure.code import ROOT
from tests.structure.lowest import lowest


def test_every_package_of_a_user_has_a_lower_bound() -> None:
    assert {"numpy", "onnxruntime", "grpcio", "av", "tomli"} <= set(lowest())
    assert all(Version(version) for version in lowest().values())


def test_pinned_versions_are_not_older_than_the_bounds() -> None:
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    for name, version in pins:
        bound = lowest().get(re.sub(r"[-_.]+", "-", name).lower(), "0")
        assert version in SpecifierSet(f">={bound}"), f"{name} is pinned at {version}, below its bound {bound}"
