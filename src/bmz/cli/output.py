"""What the user sees: answers on stdout, all else on stderr, progress as bars with an estimate."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmz.base.progress import Event, Listener, Note, Progress, printable
from bmz.image.given_names import with_given_names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


_GAP = 2
_LEAST = 10
"""No column is cut to less than this."""

_ROWS_LEFT = 4
"""Of the terminal, for the words above and below the picture."""

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def say(
    lines: Sequence[tuple[str, str]], *, answers: bool = True, all_on_stdout: bool = False
) -> None:
    """Print lines.

    Parameters
    ----------
    lines : kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and text
    answers : False to leave out the answers, which then stand in a JSON document
    all_on_stdout : the lines of every kind are the answer; those that are no answer of their own
        stand indented under the one before
    """
    inward = "  " if all_on_stdout else ""
    for kind, written in lines:
        text = printable(with_given_names(written))
        if kind in _COLOURS:
            painted = click.style(kind, fg=_COLOURS[kind], bold=True)
            click.echo(f"{inward}{painted}: {text}", err=not all_on_stdout)
        elif kind == "hint":
            click.echo(f"{inward}  hint: {text}", err=not all_on_stdout)
        elif answers:
            click.echo(text)


def print_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells in columns on stdout.

    On a terminal the widest columns but the first are cut until a line fits, with a mark where
    text is lost; into a file or another program everything is written.
    """
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(len(row[i]) for row in (headings, *lines)) for i in range(len(headings))]
    room = _room()
    if room is not None:
        widths = fitted(widths, room - _GAP * (len(widths) - 1))
    click.echo(click.style(_line(headings, widths), bold=True))
    for cells in lines:
        click.echo(_line(cells, widths))


def print_blocks(
    headings: Sequence[str], lines: Sequence[Sequence[str]], *, whole: int, below: int
) -> None:
    """Print lines of cells in columns on stdout, wrapped on a terminal that is too narrow for them.

    There each line becomes a block of several: one column stands below another, and words that do
    not fit go on in the next line of their cell. Into a file or another program everything is
    written in one line.

    Parameters
    ----------
    whole : column whose cells are never broken
    below : column whose cells are put below those of `whole`, where the terminal is narrow; they
        are cut to its width
    """
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(len(row[i]) for row in (headings, *lines)) for i in range(len(headings))]
    room = _room()
    if room is None or sum(widths) + _GAP * (len(widths) - 1) <= room:
        print_table(headings, lines)
        return
    beside = [i for i in range(len(headings)) if i != below]
    narrow = wrapped_widths(
        [[row[i] for i in beside] for row in (headings, *lines)],
        room - _GAP * (len(beside) - 1),
        whole=beside.index(whole),
        widened=widths[below],
    )
    for number, row in enumerate((headings, *lines)):
        cells = [textwrap.wrap(row[i], width) for i, width in zip(beside, narrow, strict=True)]
        if number and row[below]:
            cells[beside.index(whole)].append(row[below])
        for words in itertools.zip_longest(*cells, fillvalue=""):
            line = _line(words, narrow)
            click.echo(line if number else click.style(line, bold=True))


def wrapped_widths(
    rows: Sequence[Sequence[str]], room: int, *, whole: int, widened: int = 0
) -> list[int]:
    """Give widths at which no word is broken; if that is too wide, the widest columns are cut.

    The column `whole` is cut last, since a name that is broken cannot be copied. Room that is left
    goes to the columns whose text is the longest.

    Parameters
    ----------
    rows : cells
    whole : column whose cells are not wrapped
    widened : width up to which this column is widened where there is room

    Examples
    --------
    >>> wrapped_widths([["a-cat", "nuclei in fluorescence"]], 22, whole=0)
    [5, 17]
    >>> wrapped_widths([["conscientious-dromedary", "mitochondria in fluorescence"]], 34, whole=0)
    [23, 11]
    """
    columns = list(zip(*rows, strict=True))
    widest = [max(map(len, column)) for column in columns]
    least = [
        widest[i]
        if i == whole
        else max(len(word) for cell in column for word in cell.split() or [""])
        for i, column in enumerate(columns)
    ]
    widest[whole] = max(widest[whole], widened)
    while sum(least) > room and max(least) > _LEAST:
        wide = [i for i in range(len(least)) if i != whole and least[i] > _LEAST]
        least[max(wide or [whole], key=lambda i: least[i])] -= 1
    while sum(least) < min(room, sum(widest)):
        least[max(range(len(least)), key=lambda i: widest[i] / least[i])] += 1
    return least


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Cut the widest columns but the first until all fit, or until none can be cut any more.

    Examples
    --------
    >>> fitted([24, 30, 50], 64)
    [24, 20, 20]
    """
    first, *cut = widths
    while first + sum(cut) > room and max(cut, default=0) > _LEAST:
        cut[max(range(len(cut)), key=lambda i: (cut[i], i))] -= 1
    return [first, *cut]


def _room() -> int | None:
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return (" " * _GAP).join(f"{_cut(cell, width):<{width}}" for cell, width in pairs).rstrip()


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print a column of headings and a column of texts on stdout.

    Parameters
    ----------
    rows : heading (empty to go on under the last one) and text
    """
    left = max(len(heading) for heading, _ in rows) + 2
    width = min(max(shutil.get_terminal_size().columns, 40), 120) - left
    for heading, text in rows:
        words = printable(text)
        wrapped = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(wrapped or [""]):
            shown = heading if number == 0 else ""
            click.echo(click.style(f"{shown:<{left}}", bold=True) + line)


def draw_all(overlays: Iterable[Path]) -> None:
    """Draw pictures on the terminal: by sixel or Kitty's protocol if it has them, else in blocks.

    Where stdout is no terminal, only a note is printed.

    Parameters
    ----------
    overlays : PNG files
    """
    if not sys.stdout.isatty() or not _has_a_size():
        click.echo(
            "note: --preview draws on a terminal, and stdout is none, or has no size", err=True
        )
        return
    from rich.console import Console

    console = Console()
    for path in overlays:
        draw(path, console)


def _has_a_size() -> bool:
    # terminals that programs make may have none
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except OSError:
        return False


def draw(path: Path, console: Console) -> None:
    """Draw one picture, no higher than the terminal."""
    # the library asks the terminal what it can, once, when it is imported
    from textual_image.renderable import Image

    console.print(Image(path, height=max(console.size.height - _ROWS_LEFT, 1)))


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
