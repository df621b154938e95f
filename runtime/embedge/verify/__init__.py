"""Certificates: compare a bundle's results on this device with those of the original model, without torch.

`embedge export` measures on a whole corpus before it publishes a bundle. `embedge verify` repeats the measurement on
the device that serves it, from the golden pairs in the bundle.
"""

from __future__ import annotations

from embedge.verify.golden import Golden, Pairs
from embedge.verify.measure import measure, verify
from embedge.verify.metrics import prefixes

__all__ = ["Golden", "Pairs", "measure", "prefixes", "verify"]
