"""Whose turn it is, by the plainest of means, to hold the queue to its promise."""

from __future__ import annotations

from collections.abc import Iterable

from embedge.scheduling.fair_queue import Call, Entry

__all__ = ["Turns"]

Head = tuple[tuple[float, int], Entry, float]

# What the queue promises: batches in a row that interactive work may anchor while bulk waits, and the share of its own
# time that smaller calls may take from an entry that is first.
_BULK_TURN = 8
_PASSING = 0.25


class Turns:
    """Whose turn it is, found by looking at every waiting call: the fairness that the queue promises."""

    def __init__(self) -> None:
        self.passed = {"interactive": 0, "bulk": 0}  # batches in a row without the oldest entry of this kind
        self._heads: list[Head] | None = None
        self._first: Entry | None = None
        self._gone = 0.0  # seconds of work that passed it

    def look(self, calls: Iterable[Call]) -> None:
        """Note each call's oldest entry and all its work, before the scheduler is asked for a batch."""
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
        for head in self._heads:
            kind = head[1].call.priority
            if head[1].call.dropped is None and (kind not in oldest or head[0] < oldest[kind][0]):
                oldest[kind] = head
        for kind in self.passed:
            had_turn = kind not in oldest or oldest[kind][1] in taken
            self.passed[kind] = 0 if had_turn else self.passed[kind] + 1
        if self.passed["interactive"]:
            self.passed["interactive"] *= not self._let_pass(oldest["interactive"][1], taken)
        if all(self.passed[kind] for kind in oldest):
            return "no oldest entry is in the batch"
        if self.passed["interactive"] > 1:
            return "interactive waits behind a second bulk batch"
        return "bulk waits for more than its turn" if self.passed["bulk"] > _BULK_TURN else ""

    def _let_pass(self, first: Entry, taken: set[Entry]) -> bool:
        """Return whether a call in the batch was small enough to pass the one that is first."""
        if first is not self._first:
            self._first, self._gone = first, 0.0
        most = _PASSING * first.seconds * (1 + 1e-9) - self._gone
        self._gone += sum(entry.seconds for entry in taken)
        return any(entry in taken and work <= most for _, entry, work in self._heads or ())


def head(call: Call) -> Head:
    """Return a call's oldest entry, its place in the line of all, and the seconds of all that the call has left."""
    entry = next(iter(call.waiting))
    seconds = sum(waiting.seconds for waiting in call.waiting) + call.unprepared * call.item_seconds
    return (call.virtual_time, entry.sequence), entry, seconds
