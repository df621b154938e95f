"""The capacity of a queue: how many items may wait, and how many bytes of prepared arrays."""

from __future__ import annotations

from embedge.errors import InvalidInput, Overloaded

__all__ = ["QueueCapacity"]

# A large call is prepared further until one part in this many of the bytes is ready: enough for several batches.
_AHEAD = 4


class QueueCapacity:
    """Counts what waits between admission and a lane. Owned by the scheduler, used under its lock.

    Attributes:
        items: Admitted items.
        bytes: Bytes of their prepared arrays, predicted until they are prepared.
        ready: Bytes of arrays that are prepared.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        """Create an empty queue's capacity.

        Args:
            max_items: Items at most.
            max_bytes: Bytes of prepared arrays at most.
        """
        self.items = self.bytes = self.ready = 0
        self._max_items = max_items
        self._max_bytes = max_bytes

    @property
    def crowded(self) -> bool:
        """Whether so much is prepared that large calls should pause preparing."""
        return self.ready > self._max_bytes // _AHEAD

    def check(self, items: int, size: int, backlog: float) -> None:
        """Raise unless these items fit.

        Args:
            items: How many items.
            size: Their bytes.
            backlog: Seconds of work that wait now.

        Raises:
            InvalidInput: They never fit.
            Overloaded: They do not fit now.
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
