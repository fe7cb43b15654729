"""Print answers on stdout, and everything else on stderr, with progress bars."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from bmz.base.computer import for_this_environment
from bmz.base.progress import Event, Listener, Note, Progress, Stage, printable
from bmz.cli.columns import terminal_room, wrapped_line
from bmz.image.given_names import with_given_names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


_WORK = "work"
"""The bar for work of unknown length; the stages of a run have their own."""

_ROWS_LEFT = 4
"""Lines of the terminal kept free for the text above and below the picture."""

_ROW_TO_COLUMN = 2
"""Height of a terminal character divided by its width."""

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

_PATIENCE_S = 0.5
"""After this time without output, the terminal shows what is being done."""

_NAMED = 4
"""Number of images that are named where one warning applies to many."""

VERBOSITY = "bmz.cli.verbosity"
"""Key of click's context: 1 with ``--verbose``, -1 with ``--quiet``."""


def verbosity() -> int:
    """Return 1 if every detail is requested, -1 for warnings and errors only, else 0."""
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
    answers : False to leave out the answers, which are in a JSON document instead
    all_on_stdout : lines of every kind belong to the answer; those of other kinds are indented
        under the one before
    """
    inward = "  " if all_on_stdout else ""
    asked = verbosity()
    for kind, written in lines:
        if not (_is_heard(kind, asked) or (all_on_stdout and kind == "answer")):
            continue
        if kind == "answer" and not answers:
            continue
        on_stderr = kind != "answer" and not all_on_stdout
        _print_line(kind, written, inward, on_stderr=on_stderr)


def draw_all(overlays: Iterable[Path]) -> None:
    """Draw pictures on the terminal, by sixel or Kitty's protocol if it has them, else in blocks.

    If stdout is not a terminal, only a note is printed.

    Parameters
    ----------
    overlays : PNG files
    """
    if not sys.stdout.isatty() or not _has_a_size():
        click.echo(
            "note: --preview draws on a terminal; stdout is not a terminal, or has no size",
            err=True,
        )
        return
    from rich.console import Console

    console = Console()
    for path in overlays:
        draw(path, console)


def _has_a_size() -> bool:
    # terminals created by programs may have none
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except OSError:
        return False


def draw(path: Path, console: Console) -> None:
    """Draw one picture at its own aspect ratio, no larger than the terminal."""
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
    """Yield a listener that draws bars on a terminal, and prints only notes elsewhere.

    A warning that applies to many images is printed once; at the end, a line names the others.

    Parameters
    ----------
    begins : the first activity, in a word or two
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
    """A listener that prints notes, and prints a warning about many images once.

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
        """Return the lines to print for a note: none if it was printed before."""
        if not _is_heard(note.kind, self._verbosity):
            return []
        if note.code and note.image and self._verbosity < 1:
            images = self._images.setdefault((note.kind, note.code), {})
            images[note.image] = None
            if next(iter(images)) != note.image:
                return []
        return [("note" if note.kind == "detail" else note.kind, note.sentence)]

    def rest(self) -> list[tuple[str, str]]:
        """Return lines naming the other images of each warning, and forget what was printed."""
        lines = []
        for (kind, code), (_, *others) in self._images.items():
            if others and kind != "hint":
                named = ", ".join(others[:_NAMED])
                more = len(others) - _NAMED
                named += f" and {more} more" if more > 0 else ""
                counted = f"{len(others)} other image{'s' * (len(others) > 1)}"
                lines.append((kind, f"the same applies to {counted}: {named} [{code}]"))
        self._images.clear()
        return lines

    def close(self) -> None:
        """Print what remains to be said at the end."""
        for line in self.rest():
            _print_line(*line)


def _print_line(kind: str, text: str, inward: str = "", *, on_stderr: bool = True) -> None:
    start = {"answer": "", "hint": f"{inward}  hint: "}.get(kind, f"{inward}{kind}: ")
    room = terminal_room(sys.stderr if on_stderr else sys.stdout)
    words = for_this_environment(text) if kind == "hint" else text
    told = start + printable(with_given_names(words))
    line = wrapped_line(told, room, command=kind == "hint")
    if kind in _COLOURS:
        painted = click.style(kind, fg=_COLOURS[kind], bold=True)
        line = f"{inward}{painted}{line[len(inward + kind) :]}"
    click.echo(line, err=on_stderr)


class _Drawing:
    """One bar per stage; the tile bar starts again with each plane, the byte bar with each file.

    Work of unknown length has its own line with its name, the elapsed time and a spinner. The
    drawing library is loaded by the first event that needs a bar, or after `_PATIENCE_S` without
    output.

    Parameters
    ----------
    telling : decides what is printed for a note
    begins : the first activity
    """

    def __init__(self, telling: _Telling | None = None, begins: str = "reading") -> None:
        self._telling = telling or _Telling()
        self._bars: Bars | None = None
        self._files = ExitStack()
        self._tasks: dict[str, TaskID] = {}
        self._file = ""
        self._tiles = 0
        self._work = begins
        self._lock = threading.Lock()  # parallel downloads report at the same time
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
        """Remove the bars."""
        self._patience.cancel()
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None
        self._files.close()
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
                self._bars = self._bars or _started(self._files)
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
            self._bars = _started(self._files)
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
        # not at 1: the first event of a plane reports a whole batch
        done, self._tiles = self._tiles, event.done
        return event.done < done


def _started(files: ExitStack) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class TimeColumn(TimeRemainingColumn):
        """The remaining time, or the elapsed time where the length of the work is unknown."""

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
        console=Console(file=_copy_of_stderr(files)),
        transient=True,
    )
    bars.start()
    return bars


def _copy_of_stderr(files: ExitStack) -> TextIO:
    """Duplicate stderr, so that bars continue while a framework's messages are suppressed."""
    try:
        copy = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # stderr is not a file, as in a test
        return sys.stderr
    file = os.fdopen(copy, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    return files.enter_context(file)


def _count(event: Progress) -> str:
    if event.stage == "bytes":
        return f"{event.done / 1e6:.1f}/{event.total / 1e6:.1f} MB"
    return f"{event.done}/{event.total}"
