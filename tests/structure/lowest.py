"""The oldest versions that pyproject.toml admits, as constraints for pip.

`make test-lowest` installs the runtime with these, so that a lower bound nobody could run fails a test.
"""

from __future__ import annotations

import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.structure.code import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Extras of developers: their pinned versions test the oldest versions of the others.
TOOLS = {"dev", "docs", "test", "test-runtime"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lowest() -> dict[str, str]:
    """Return the lower bound of each package that the base or an extra for users names."""
    lines = [*PROJECT["dependencies"], *(line for name in EXTRAS if name not in TOOLS for line in EXTRAS[name])]
    found = {}
    for wanted in map(Requirement, lines):
        bounds = [each.version for each in wanted.specifier if each.operator in (">=", "==")]
        if wanted.name != PROJECT["name"]:
            (found[canonicalize_name(wanted.name)],) = bounds
    return found


def constraints(pins: list[str]) -> list[str]:
    """Return lines for pip: the lower bounds, and of the pins only those of the tests' tools.

    The other pins are of what the newest versions depend on; old versions need older ones.
    """
    tools = {canonicalize_name(Requirement(line).name) for line in EXTRAS["test-runtime"]} - set(lowest())
    bounds = [f"{name}=={version}" for name, version in sorted(lowest().items())]
    return bounds + [pin for pin in pins if canonicalize_name(pin.partition("==")[0]) in tools]


if __name__ == "__main__":
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    sys.stdout.writelines(f"{line}\n" for line in constraints(pins))
