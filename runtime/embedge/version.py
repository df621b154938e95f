"""The version of embedge."""

__version__ = "0.1.0"
