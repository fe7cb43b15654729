"""Progress on stderr: a bar for each stage, with an estimate after its second step."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bmz.base.progress import Event, Listener, Note, Progress, printable
from bmz.cli.output import say
from bmz.image.given_names import with_given_names

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def progress_bars() -> Iterator[Listener]:
    """Give a listener that draws bars on a terminal, and prints only notes elsewhere."""
    if not sys.stderr.isatty():
        yield _note_only
        return
    drawing = _Drawing()
    try:
        yield drawing
    finally:
        drawing.close()


def _note_only(event: Event, /) -> None:
    if isinstance(event, Note):
        say([(event.kind, event.text)])


class _Drawing:
    """One bar a stage; the bar of tiles starts anew with every plane, that of bytes with a file.

    The library that draws is loaded by the first event that needs a bar.
    """

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._file = ""
        self._tiles = 0
        self._lock = threading.Lock()  # downloads tell of themselves side by side

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            if isinstance(event, Progress):
                self._draw(event)
            elif self._bars is None:
                _note_only(event)
            else:
                start = "  hint" if event.kind == "hint" else event.kind
                self._bars.console.print(
                    f"{start}: {printable(with_given_names(event.text))}",
                    highlight=False,
                    markup=False,
                )

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()

    def _draw(self, event: Progress) -> None:
        bars = self._bars = self._bars or _started()
        if event.stage not in self._tasks:
            self._tasks[event.stage] = bars.add_task(
                event.stage, total=event.total, what="", count=""
            )
        task = self._tasks[event.stage]
        if self._begins_anew(event):
            bars.reset(task)
        bars.update(
            task, completed=event.done, total=event.total, what=event.what, count=_count(event)
        )

    def _begins_anew(self, event: Progress) -> bool:
        if event.stage == "bytes":
            before, self._file = self._file, event.what
            return before != event.what
        if event.stage != "tiles":
            return False
        # not at 1: the first event of a plane tells of a whole batch
        done, self._tiles = self._tiles, event.done
        return event.done < done


def _started() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<5}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[what]}"),
        console=Console(stderr=True),
        transient=True,
    )
    bars.start()
    return bars


def _count(event: Progress) -> str:
    if event.stage == "bytes":
        return f"{event.done / 1e6:.1f}/{event.total / 1e6:.1f} MB"
    return f"{event.done}/{event.total}"
