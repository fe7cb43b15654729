"""Progress on stderr: files, then tiles, with an estimate after the second tile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bmz.base.progress import Event, Listener, Note

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def progress_bars() -> Iterator[Listener]:
    """Give a listener that draws bars on a terminal, and prints only notes elsewhere."""
    if not sys.stderr.isatty():
        yield _note_only
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<5}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Drawing(bars)


def _note_only(event: Event, /) -> None:
    if isinstance(event, Note):
        click.echo(f"note: {event.text}", err=True)


class _Drawing:
    """One bar a stage; the bar of tiles starts anew with every plane."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Note):
            self._bars.console.print(f"note: {event.text}", highlight=False, markup=False)
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total, what="")
        task = self._tasks[event.stage]
        if event.stage == "tiles" and event.done <= 1:
            self._bars.reset(task)
        self._bars.update(task, completed=event.done, total=event.total, what=event.what)
