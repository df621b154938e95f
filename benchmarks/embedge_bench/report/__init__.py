"""The HTML report: one file with everything in it, made from the records of `results`.

The pictures are SVG drawn here, rather than by a plotting library: a page of megabytes for a dozen charts, or pictures
whose colours cannot follow the reader's theme, is what the known libraries offer. The page reads without its script,
which only shows what the pointer is on.
"""

from __future__ import annotations

from embedge_bench.report.page import html, write

__all__ = ["html", "write"]
