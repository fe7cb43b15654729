"""What the user sees: answers on stdout, all else on stderr, progress as bars with an estimate."""

from __future__ import annotations

import itertools
import logging
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

from bmz.base.progress import Event, Listener, Note, Progress, Stage, printable
from bmz.image.given_names import with_given_names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


_GAP = 2

_WORK = "work"
"""The bar of what has no end that can be told; the stages of a run have others."""

_LEAST = 10
"""No column is cut to less than this."""

_ROWS_LEFT = 4
"""Of the terminal, for the words above and below the picture."""

_ROW_TO_COLUMN = 2
"""How many times as high as wide a character of a terminal is."""

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

_PATIENCE_S = 0.5
"""After this time without a word, a terminal is shown what is being done."""

_NAMED = 4
"""Images that are named where a warning is told of many at once."""

VERBOSITY = "bmz.cli.verbosity"
"""Key of click's context: 1 with ``--verbose``, -1 with ``--quiet``."""


def verbosity() -> int:
    """Give 1 where every detail is asked for, -1 where only warnings and errors are, else 0."""
    context = click.get_current_context(silent=True)
    return 0 if context is None else context.meta.get(VERBOSITY, 0)


def _is_heard(kind: str, verbosity: int) -> bool:
    return verbosity >= {"answer": 0, "note": 0, "detail": 1}.get(kind, -1)


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
    asked = verbosity()
    for kind, written in lines:
        if not (_is_heard(kind, asked) or (all_on_stdout and kind == "answer")):
            continue
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

    Where stdout is not a terminal, only a note is printed.

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
    """Draw one picture in its own shape, no higher and no wider than the terminal."""
    import PIL.Image

    # a terminal that does not answer is assumed to be of the usual kind, without a traceback
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    # the library asks the terminal what it can, once, when it is imported
    from textual_image.renderable import Image

    rows = max(console.size.height - _ROWS_LEFT, 1)
    with PIL.Image.open(path) as picture:
        width, height = picture.size
    if width / height * _ROW_TO_COLUMN * rows > console.size.width:
        console.print(Image(path, width=console.size.width, height="auto"))
    else:
        console.print(Image(path, width="auto", height=rows))


@contextmanager
def progress_bars(begins: str = "reading") -> Iterator[Listener]:
    """Give a listener that draws bars on a terminal, and prints only notes elsewhere.

    A warning that comes up in many images is printed once; at the end it is said of which others
    it holds.

    Parameters
    ----------
    begins : what is done at first, in a word or two
    """
    asked = verbosity()
    telling = _Telling(asked)
    if asked < 0 or not sys.stderr.isatty():
        try:
            yield telling
        finally:
            telling.close()
        return
    drawing = _Drawing(telling, begins)
    try:
        yield drawing
    finally:
        drawing.close()


class _Telling:
    """A listener that prints notes, and a warning of many images once.

    Parameters
    ----------
    verbosity : see `verbosity`
    """

    def __init__(self, verbosity: int = 0) -> None:
        self._verbosity = verbosity
        self._images: dict[tuple[str, str], dict[str, None]] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Note):
            with self._lock:
                for line in self.lines(event):
                    _print_line(*line)

    def lines(self, note: Note) -> list[tuple[str, str]]:
        """Give what is to be printed of a note, which is nothing where it was said before."""
        if not _is_heard(note.kind, self._verbosity):
            return []
        if note.code and note.image and self._verbosity < 1:
            images = self._images.setdefault((note.kind, note.code), {})
            images[note.image] = None
            if next(iter(images)) != note.image:
                return []
        return [("note" if note.kind == "detail" else note.kind, note.sentence)]

    def rest(self) -> list[tuple[str, str]]:
        """Say of which other images a warning holds, too; what was said is forgotten."""
        lines = []
        for (kind, code), (_, *others) in self._images.items():
            if others and kind != "hint":
                named = ", ".join(others[:_NAMED])
                more = len(others) - _NAMED
                named += f" and {more} more" if more > 0 else ""
                counted = f"{len(others)} other image{'s' * (len(others) > 1)}"
                lines.append((kind, f"the same of {counted}, {named} [{code}]"))
        self._images.clear()
        return lines

    def close(self) -> None:
        """Print what is to be said at the end."""
        for line in self.rest():
            _print_line(*line)


def _print_line(kind: str, text: str) -> None:
    start = "  hint" if kind == "hint" else click.style(kind, fg=_COLOURS[kind], bold=True)
    click.echo(f"{start}: {printable(with_given_names(text))}", err=True)


class _Drawing:
    """One bar a stage; the bar of tiles starts again with every plane, that of bytes with a file.

    Work whose length nobody can tell has a line of its own with its name, the time that it has
    taken and a spinner. The library that draws is loaded by the first event that needs a bar, or
    when nothing was told for `_PATIENCE_S`.

    Parameters
    ----------
    telling : knows what is printed of a note
    begins : what is done at first
    """

    def __init__(self, telling: _Telling | None = None, begins: str = "reading") -> None:
        self._telling = telling or _Telling()
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._file = ""
        self._tiles = 0
        self._work = begins
        self._lock = threading.Lock()  # downloads tell of themselves side by side
        self._patience = threading.Timer(_PATIENCE_S, self._show_work)
        self._patience.daemon = True
        self._patience.start()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            if isinstance(event, Progress):
                self._draw(event)
            elif isinstance(event, Stage):
                self._begin(event.what)
            else:
                for line in self._telling.lines(event):
                    self._print(*line)

    def close(self) -> None:
        """Take the bars away."""
        self._patience.cancel()
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None
        self._telling.close()

    def _print(self, kind: str, text: str) -> None:
        if self._bars is None:
            _print_line(kind, text)
            return
        start = "  hint" if kind == "hint" else kind
        told = printable(with_given_names(text))
        self._bars.console.print(f"{start}: {told}", highlight=False, markup=False)

    def _show_work(self) -> None:
        with self._lock:
            if not self._patience.finished.is_set():
                self._bars = self._bars or _started()
                self._begin(self._work)

    def _begin(self, work: str) -> None:
        self._work = work
        if self._bars is None:
            return
        if _WORK in self._tasks:
            self._bars.reset(self._tasks[_WORK], description=work)
        else:
            self._tasks[_WORK] = self._bars.add_task(work, total=None, what="", count="")

    def _draw(self, event: Progress) -> None:
        if self._bars is None:
            self._bars = _started()
            self._begin(self._work)
        bars = self._bars
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
    from rich.progress import BarColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class TimeColumn(TimeRemainingColumn):
        """The time that is left; that taken where the length of the work is not known."""

        def render(self, task: Task) -> Text:
            if task.total is None:
                return Text(f"{task.elapsed or 0:.0f} s")
            return super().render(task)

    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description:<5}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}"),
        TimeColumn(compact=True),
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
