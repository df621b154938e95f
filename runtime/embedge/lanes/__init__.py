"""A model's lanes: execution slots with a thread each, what they run on, and the pool that opens and watches them."""

from embedge.lanes.executor import Executor
from embedge.lanes.lane import Lane
from embedge.lanes.outcome import Group, Outcome
from embedge.lanes.pool import LanePool

__all__ = ["Executor", "Group", "Lane", "LanePool", "Outcome"]
