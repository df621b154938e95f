"""A page in headless Chromium: what its document has become after its scripts ran."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--enable-logging=stderr", "--virtual-time-budget=2000"),
)


class Document(HTMLParser):
    """What the tests ask of a document: attributes of the root and of the tooltip's text, and the charts' marks."""

    def __init__(self, text: str, log: str) -> None:
        super().__init__()
        self.log = log
        self.root: dict[str, str | None] = {}
        self.charts: list[tuple[str, int]] = []
        self.tip = ""
        self.fetched: list[str] = []
        self._in_tip = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.root = found
        if tag == "figure":
            self.charts.append((found["data-chart"] or "", 0))
        if "mark" in (found.get("class") or "").split():
            kind, marks = self.charts[-1]
            self.charts[-1] = kind, marks + 1
        self._in_tip = found.get("id") == "tip"
        self.fetched += [value for name in ("src", "href") if (value := found.get(name))]

    def handle_data(self, data: str) -> None:
        if self._in_tip:
            self.tip += data

    def handle_endtag(self, tag: str) -> None:
        self._in_tip = False


def rendered(page: Path, profile: Path, *, width: int = 1200) -> Document:
    """Return the document of a page in a window `width` pixels wide. Skips the test where there is no Chromium."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not browser:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    command = [browser, *FLAGS, f"--window-size={width},900", f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return Document(done.stdout, done.stderr)
