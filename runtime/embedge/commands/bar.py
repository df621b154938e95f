"""Progress of a plan build on stderr: bars on a terminal, otherwise a line now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from embedge.backends.tensorrt.plans.messages import Message, Progress

__all__ = ["bars"]


@contextmanager
def bars() -> Iterator[Callable[[Message], None]]:
    """Show bars while the block runs; yield the callback for the builder's messages."""
    console = Console(stderr=True)
    if not console.is_terminal:
        from embedge.backends.tensorrt.plans.progress import LogProgress

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        yield LogProgress()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as shown:
        yield _PhaseBars(shown)


class _PhaseBars:
    """One bar per running phase; nested phases are indented."""

    def __init__(self, shown: Bars) -> None:
        self._shown = shown
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __call__(self, message: Message) -> None:
        from embedge.backends.tensorrt.plans.messages import Log, Progress

        if isinstance(message, Progress):
            self._progress(message)
        elif isinstance(message, Log):
            self._shown.console.print(f"[yellow]TensorRT[/]: {escape(message.text)}", highlight=False)
        else:
            for place in [place for place in self._tasks if place[0] == message.graph]:
                self._shown.remove_task(self._tasks.pop(place))

    def _progress(self, message: Progress) -> None:
        place = (message.graph, message.phase)
        total = message.total or None
        if message.done == message.total and message.total:
            if place in self._tasks:
                self._shown.remove_task(self._tasks.pop(place))
            return
        if place not in self._tasks:
            name = f"  {message.phase}" if message.parent else f"{message.graph}: {message.phase}"
            self._tasks[place] = self._shown.add_task(escape(name), total=total)
        self._shown.update(self._tasks[place], completed=message.done, total=total)
