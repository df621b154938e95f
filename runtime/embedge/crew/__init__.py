"""The crew: a model's lanes, from their choice to their end."""

from embedge.crew.crew import Crew

__all__ = ["Crew"]
