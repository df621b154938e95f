"""Whose turn it is, by the plainest of means, to hold the queue to its promise."""

from __future__ import annotations

from collections.abc import Iterable

from embedge.fairqueue import Call, Entry

__all__ = ["Turns"]

Head = tuple[tuple[float, int], Entry]


# Batches in a row that interactive work may anchor while bulk waits: what the queue promises.
_BULK_TURN = 8


class Turns:
    """Whose turn it is, found by looking at every waiting call: the fairness that the queue promises."""

    def __init__(self) -> None:
        self.passed = {"interactive": 0, "bulk": 0}  # batches in a row without the oldest entry of this kind
        self._heads: list[Head] | None = None

    def look(self, calls: Iterable[Call]) -> None:
        """Note each call's oldest entry, before the scheduler is asked for a batch."""
        self._heads = [head(call) for call in calls if call.waiting]

    def look_away(self) -> None:
        """Let a batch pass unseen: what was counted is not known any more."""
        self._heads = None
        self.passed = dict.fromkeys(self.passed, 0)

    def see(self, taken: set[Entry]) -> str:
        """Look at the batch that came; return what is wrong with it."""
        if self._heads is None:
            return ""
        oldest: dict[str, Head] = {}
        for place, entry in self._heads:
            kind = entry.call.priority
            if entry.call.dropped is None and (kind not in oldest or place < oldest[kind][0]):
                oldest[kind] = place, entry
        before = dict(self.passed)
        for kind in self.passed:
            self.passed[kind] = before[kind] + 1 if kind in oldest and oldest[kind][1] not in taken else 0
        if all(self.passed[kind] for kind in oldest):
            return "no oldest entry is in the batch"
        if self.passed["interactive"] > 1:
            return "interactive waits behind a second bulk batch"
        return "bulk waits for more than its turn" if self.passed["bulk"] > _BULK_TURN else ""


def head(call: Call) -> Head:
    """Return the oldest entry of a call, and its place in the line of all."""
    entry = next(iter(call.waiting))
    return (call.paid, entry.sequence), entry
