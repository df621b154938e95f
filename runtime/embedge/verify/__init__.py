"""The certificate: what a bundle gives here and now, held against vectors of the original model. Needs no torch.

`embedge export` measures on a whole corpus before a bundle exists; `embedge verify` repeats it on the device that
serves it, from the golden pairs in the bundle.
"""

from __future__ import annotations

from embedge.verify.figures import prefixes
from embedge.verify.golden import Golden, Pairs
from embedge.verify.measure import measure, verify

__all__ = ["Golden", "Pairs", "measure", "prefixes", "verify"]
