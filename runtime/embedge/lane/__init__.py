"""Lanes: one execution slot each, with its thread, what it works at, and what became of its batches."""

from embedge.lane.lane import Lane
from embedge.lane.outcome import Group, Outcome
from embedge.lane.post import Post

__all__ = ["Group", "Lane", "Outcome", "Post"]
