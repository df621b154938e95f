"""The HTML report: one file with everything in it, made from the records of `results`.

The charts are SVG drawn here. Plotting libraries offer megabytes for a dozen charts, or colours fixed to one theme. The
page works without its script, which only adds tooltips.
"""

from __future__ import annotations

from embedge_bench.report.page import html, write

__all__ = ["html", "write"]
