"""TensorRT: plans of a bundle's graphs, built and proven on this GPU, shared by lanes that each have a stream."""

from __future__ import annotations

from embedge.backends.tensorrt.backend import TensorRTBackend

__all__ = ["TensorRTBackend"]
