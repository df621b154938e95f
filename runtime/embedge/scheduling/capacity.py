"""The room in a queue: how many items may wait in it, and how many bytes of them."""

from __future__ import annotations

from embedge.errors import InvalidInput, Overloaded

__all__ = ["QueueCapacity"]

# Preparing a large call goes on while this part of the bytes waits for lanes: enough for several batches.
_AHEAD = 4


class QueueCapacity:
    """Counts what waits from admission until it leaves for a lane. Owned by the scheduler, used under its lock.

    items, bytes: all that was let in; bytes are of prepared arrays, predicted until they are there. ready: bytes of
    those that are there.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self.items = self.bytes = self.ready = 0
        self._max_items = max_items
        self._max_bytes = max_bytes

    @property
    def crowded(self) -> bool:
        """Whether so much is prepared that large calls had better wait with more."""
        return self.ready > self._max_bytes // _AHEAD

    def check(self, items: int, size: int, backlog: float) -> None:
        """Raise what stands against so many items, of `size` bytes, while `backlog` seconds of work wait.

        Raises InvalidInput where they never fit, Overloaded where they do not now.
        """
        for amount, inside, most, what, setting in (
            (items, self.items, self._max_items, "items", "max_queue_items"),
            (size, self.bytes, self._max_bytes, "bytes of prepared items", "max_queue_bytes"),
        ):
            if amount > most:
                raise InvalidInput(
                    f"{amount:,} {what} are more than ever fit into the queue, {most:,} ({setting}); "
                    "send them in several calls"
                )
            if inside + amount > most:
                raise Overloaded(
                    f"{amount:,} {what} do not fit: the queue holds {inside:,} of at most {most:,} "
                    f"({setting}); come back in {backlog:.1f} s or send fewer",
                    retry_after=backlog,
                )
