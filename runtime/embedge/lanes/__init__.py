"""A model's lanes: the threads that run batches, their executors, and the pool that opens and watches them."""

from embedge.lanes.executor import Executor
from embedge.lanes.lane import Lane
from embedge.lanes.outcome import Group, Outcome
from embedge.lanes.pool import LanePool
from embedge.lanes.setup import LaneSetup

__all__ = ["Executor", "Group", "Lane", "LanePool", "LaneSetup", "Outcome"]
