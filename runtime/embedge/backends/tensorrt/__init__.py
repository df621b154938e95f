"""TensorRT: plans built and checked on this GPU, shared by lanes with one stream each."""

from __future__ import annotations

from embedge.backends.tensorrt.backend import TensorRTBackend

__all__ = ["TensorRTBackend"]
