"""The list of mutants is whole, and the page has all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations import page
from tests.mutations.known import KNOWN
from tests.mutations.mutants import PACKAGE, ROOT, find, mutants

CODE = b"""\
class Lane:
    def __init__(self):
        self._lock = threading.RLock()
        self.recorded = False

    def run(self, words):
        with self._lock, trace.during("run"):
            self.recorded = True
        with self.lane.report_failures():
            self._ready.wait(1.0)
            text = ", ".join(words)
        if not self._over.wait():
            self._changed.notify_all()
            self._changed.notify_all()
        self._buffer.close()
        return text
"""


def test_each_wait_event_lock_free_and_flag_is_found_once() -> None:
    assert [(each.line, each.where, each.what) for each in find("a.py", CODE)] == [
        (3, "Lane.__init__", "that the lock may be taken twice"),
        (7, "Lane.run", "with self._lock"),
        (8, "Lane.run", "self.recorded = True"),
        (9, "Lane.run", "with self.lane.report_failures()"),
        (10, "Lane.run", "self._ready.wait(1.0)"),
        (12, "Lane.run", "self._over.wait()"),
        (13, "Lane.run", "self._changed.notify_all()"),
        (14, "Lane.run", "self._changed.notify_all() (2)"),
        (15, "Lane.run", "self._buffer.close()"),
    ]


def test_a_mutant_is_the_same_code_without_one_piece() -> None:
    texts = {each.what: each.apply(CODE).decode().splitlines() for each in find("a.py", CODE)}
    assert texts["with self._lock"][6].strip() == (
        "with __import__('contextlib').nullcontext(), trace.during(\"run\"):"
    )
    assert texts["self.recorded = True"][7].strip() == "pass"
    assert texts["self._over.wait()"][11].strip() == "if not True:"
    whole = CODE.decode().splitlines()
    assert {sum(ours != theirs for ours, theirs in zip(text, whole, strict=True)) for text in texts.values()} == {1}


def test_only_the_functions_that_are_named_are_looked_at() -> None:
    assert {each.where for each in find("a.py", CODE, only=("__init__",))} == {"Lane.__init__"}


def test_every_mutant_is_python_and_has_a_name_of_its_own() -> None:
    every = mutants()
    assert len({each.name for each in every}) == len(every)
    for each in every:
        compile(each.apply((ROOT / PACKAGE / each.file).read_bytes()), each.file, "exec")


def test_the_page_says_which_test_fails_without_each_of_them() -> None:
    there = page.read()
    missing = [each.name for each in mutants() if each.name not in there and each.name not in KNOWN]
    assert not missing, "run: python -m tests.mutations --missing --write"


def test_what_is_known_to_make_no_difference_is_still_there() -> None:
    assert KNOWN.keys() <= {each.name for each in mutants()}


def test_the_page_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "mutations.md")
    every = mutants()
    rows = {
        each.name: page.Row(each.name, f"test_{number}.py::test[a|b]", hung=number % 2 == 0)
        for number, each in enumerate(every)
    }
    page.write(every, rows)
    assert page.read() == rows
    page.write(every, {})
    assert page.read() == rows
