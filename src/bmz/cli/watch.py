"""``bmz run --watch``: run images as they appear in a folder, until the program is asked to end."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from bmz.cli.main import Terminated, patient
from bmz.cli.output import say
from bmz.engine.request import RunRequest

if TYPE_CHECKING:
    from bmz.engine.watching import Watch
    from bmz.image.listing import WatchedFolder

SETTLE_S = 5.0
"""How long an image must be unchanged before it is run, by default."""

_PAUSES_S = (0.1, 2.0)
"""The shortest and the longest pause between two rounds."""

_EXCLUDED = {
    "only_plan": "--plan prints what would be done, and stops",
    "record": "--from repeats the run of one image",
    "preview": "--preview draws at the end of a call",
    "resume": "--watch already continues what an earlier call left unfinished",
    "into_image": "--into-image changes the images, which --watch would then take for new ones",
    "scheduler": "--watch runs one image after another with one network",
}
"""Options that ``--watch`` excludes, and why."""


def refuse_with_watch(options: dict[str, object], workers: int) -> None:
    """Raise an error for options that ``--watch`` excludes.

    Raises
    ------
    click.UsageError
    """
    for name, why in _EXCLUDED.items():
        if options.get(name):
            raise click.UsageError(f"{why}: leave out one of the two.")
    if workers > 1:
        raise click.UsageError(f"{_EXCLUDED['scheduler']}: leave out --workers.")


def run_as_they_come(
    request: RunRequest,
    folder: WatchedFolder,
    settle_s: float | None,
    *,
    as_json: bool,
) -> int:
    """Run images as they appear in a folder until a signal, and return the exit status.

    Parameters
    ----------
    request : the options of the call
    folder : folder to watch
    settle_s : seconds that an image must be unchanged; None for `SETTLE_S`
    as_json : print one document at the end
    """
    from bmz.base.progress import Note
    from bmz.cli.output import progress_bars
    from bmz.engine.watching import watched
    from bmz.report.run_text import runs_json, watch_lines

    settle_s = SETTLE_S if settle_s is None else settle_s
    with progress_bars() as listener, watched(request, folder, settle_s, listener) as watch:
        listener(Note(f"watching '{folder.text}': Ctrl-C ends it"))
        with patient():
            try:
                _rounds(watch, settle_s, as_json=as_json)
            except (KeyboardInterrupt, Terminated):
                watch.join()
        summary, waiting = watch.summary, watch.waiting
    if as_json:
        click.echo(runs_json(summary))
    say(watch_lines(summary, waiting), answers=not as_json)
    return summary.exit_status


def _rounds(watch: Watch, settle_s: float, *, as_json: bool) -> None:
    from bmz.report.run_text import arrival_lines

    shortest, longest = _PAUSES_S
    while True:
        began = time.monotonic()
        with closing(watch.round()) as outcomes:
            took = time.monotonic() - began
            for outcome in outcomes:
                say(arrival_lines(outcome), answers=not as_json)
        # a network share that is slow to list is listed less often
        time.sleep(max(shortest, min(settle_s / 2, longest), took))
