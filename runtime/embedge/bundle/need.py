"""What every check of a manifest says where a name leads nowhere."""

from __future__ import annotations

from collections.abc import Collection

from embedge.errors import BundleError

__all__ = ["need"]


def need(name: str, known: Collection[str], what: str) -> None:
    """Raise BundleError if `what` names something that is not known."""
    if name not in known:
        have = ", ".join(sorted(known)) or "nothing"
        raise BundleError(f"{what} names {name!r}, but the manifest holds {have}")
