"""The report as a reader gets it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from embedge_bench import report
from embedge_bench.results import BenchReport
from tests.benchmarks import reports
from tests.benchmarks.browser import Document, rendered

# Moves the pointer onto the first bar, as a reader would.
HOVER = """<script>
const bar = document.querySelector("rect.bar[data-tip]");
bar.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: 40, clientY: 40}));
</script>"""

# Names what is drawn past the page's right edge, but for what scrolls inside its own card.
REACH = """<script>
const within = (each) => each.closest(".wide svg, .scroll table");
const past = (each) => !within(each) && each.getBoundingClientRect().right > root.clientWidth + 1;
root.dataset.past = Array.from(document.querySelectorAll("main *")).filter(past).map((each) => each.textContent).join();
</script>"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    page.write_text(report.html(reports.report()).replace("</body>", f"{HOVER}</body>"), encoding="utf-8")
    return rendered(page, folder / "profile")


def test_scripts_ran_without_an_error(document: Document) -> None:
    assert document.root["data-ready"] == "true"
    assert document.root["data-errors"] == "0"
    assert "CONSOLE" not in document.log


def test_every_chart_has_data(document: Document) -> None:
    assert {kind for kind, _ in document.charts} == {
        *("ratios", "curve", "distribution", "timeline", "padding", "sizes", "cost"),
    }
    loads, targets = len(reports.LOADS), len(reports.TARGETS)
    least = {
        "ratios": 3 * loads * (targets - 1),
        "curve": loads * targets,
        "distribution": 5 * targets,
        "timeline": 4,
        "padding": loads * 2,
        "sizes": 16,
        "cost": 36,
    }
    for kind, marks in document.charts:
        assert marks >= least[kind], kind


def test_the_pointer_is_told_what_it_is_on(document: Document) -> None:
    assert "of the computed tokens were real" in document.tip


def test_nothing_is_fetched(document: Document) -> None:
    assert document.fetched == []


def test_an_error_in_a_script_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    broken = report.html(reports.report(rounds=1)).replace("</body>", "<script>nothing.here()</script></body>")
    page.write_text(broken, encoding="utf-8")
    assert rendered(page, tmp_path / "profile").root["data-errors"] == "1"


def test_nothing_on_a_narrow_page_reaches_past_its_edge(tmp_path: Path) -> None:
    page = tmp_path / "narrow.html"
    plain = msgspec.json.encode(reports.report(rounds=1))
    made = msgspec.json.decode(plain.replace(b'"in process"', b'"ort:minilm?batch=8&sort=1"'), type=BenchReport)
    page.write_text(report.html(made).replace("</body>", f"{REACH}</body>"), encoding="utf-8")
    assert rendered(page, tmp_path / "profile", width=500).root["data-past"] == ""
