"""What holds at every moment of a simulated world, against the world's own books."""

from __future__ import annotations

from typing import Any

from embedge.batches.batch import Batch
from embedge.scheduling.fair_queue import Entry

__all__ = ["ENDED", "RUNNING", "WAITING", "check_batch", "check_books"]

WAITING, RUNNING, ENDED = range(3)


def check_batch(world: Any, batch: Batch, entries: list[Entry]) -> None:
    """Check a batch that a lane takes now."""
    rows, width, limits = len(entries), 0, world.machine.limits
    for entry in entries:
        call = entry.call
        width = max(width, entry.length)
        world.expect(call.states[entry.index] == WAITING, "an item came into a batch that did not wait")
        world.expect(call.over is None, "an item of a dropped call reached a lane")
        world.expect(call.deadline > world.now, "an item reached a lane after its deadline")
    world.counts["mixed"] += len(set(batch.towers)) > 1
    world.expect(len({entry.call.trunk for entry in entries}) == 1, "a batch mixes trunks")
    world.expect(batch.towers == [entry.call.tower for entry in entries], "a batch's towers are not its entries'")
    world.expect(rows == len(set(entries)) and 1 <= rows <= limits.rows, f"a batch has {rows} rows")
    world.expect(rows == 1 or rows * width <= limits.tokens, f"a batch has {rows} x {width} tokens")
    world.expect(batch.lengths == [entry.length for entry in entries], "a batch's lengths are not its entries'")
    wrong = world._turns.see(set(entries))
    world.expect(not wrong, wrong)


def check_books(world: Any) -> None:
    """What the scheduler remembers is what waits, and it remembers little else."""
    scheduler, queue = world.scheduler, world.scheduler._queue
    active = [call for call in world.open if call.over is None and WAITING in call.states]
    world.expect(set(scheduler._active) == set(active), "the open calls are not those that wait")
    waiting = [entry for call in active for entry in call.waiting]
    world.expect(len(waiting) + sum(c.unpushed for c in active) == world._items, "an entry waits that should not")
    seconds = sum(entry.seconds for entry in waiting) + sum(call.unprepared * call.item_seconds for call in active)
    world.expect(
        abs(seconds - sum(scheduler._queued_seconds.values())) < 1e-6 * (1 + seconds), "the seconds that wait are wrong"
    )
    world.expect(all(c.unprepared == c.unpushed for c in active), "a call owes what it has pushed")
    room, sizes = scheduler._capacity, sum(entry.size for entry in waiting)
    world.expect(room.ready == sizes, f"{room.ready} bytes are said to be prepared, {sizes} are")
    owed = sum(call.unprepared * call.size for call in active)
    world.expect(room.bytes == sizes + owed, "the bytes that wait are wrong")
    queued = sum(map(len, queue._by_length.values()))
    world.expect(queued == len(waiting), f"{queued} entries are queued, {len(waiting)} wait")
    most = 2 * world.machine.max_items + 65
    world.expect(len(scheduler._deadlines) <= most, "deadlines of ended calls pile up")
    world.expect(all(len(heap) <= most for heap in queue._by_virtual_time.values()), "places of ended calls pile up")
