"""The command ``bmz``: its sub-commands, and how an error becomes a message and an exit status."""

from __future__ import annotations

import codecs
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from bmz.base.computer import for_this_environment, version
from bmz.base.errors import BmzError
from bmz.base.files import FolderNotWritable, disk_faults_told
from bmz.base.progress import printable
from bmz.image.given_names import with_given_names

GRACE_S = 10.0
"""How long the program may take to end on its own after the first signal."""

INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Terminated(BaseException):
    """The program was asked to end; it releases its resources on the way out.

    Parameters
    ----------
    number : number of the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number  # as shells report it


@contextmanager
def interruptible() -> Iterator[None]:
    """End the program in an orderly way when it is asked to, or at once if that has no effect.

    Python handles a signal once the main thread is back in Python: it answers Ctrl-C with
    ``KeyboardInterrupt``, SIGTERM and SIGHUP with `Terminated`. While the main thread runs a
    network, or another long call into a library, the signal is only recorded; its number is also
    written to a socket, which a thread reads. A second signal, or `GRACE_S` without an end, stops
    the program immediately. Finished outputs are complete, because an output gets its name only
    when it is; ``bmz run --resume`` removes the others. Call this in the main thread.
    """
    receiver, sender = socket.socketpair()
    sender.settimeout(0)
    earlier = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    # nohup ignores SIGHUP, which is left as it is
    numbers = [n for n in ENDING[1:] if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _raise_terminated) for number in numbers}
    watch = threading.Thread(target=_watch, args=(receiver,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sender.close()
        watch.join()


_PATIENT = threading.Event()


@contextmanager
def patient() -> Iterator[None]:
    """Allow the program, while the block runs, any time to end on its own after a first signal.

    For a block whose response to a signal may take long, such as a summary.
    """
    _PATIENT.set()
    try:
        yield
    finally:
        _PATIENT.clear()


def _raise_terminated(number: int, _frame: object) -> None:
    raise Terminated(number)


def _watch(receiver: socket.socket) -> None:
    signals: list[int] = []
    with receiver:
        while True:
            try:
                numbers = receiver.recv(64)
            except TimeoutError:
                _end(signals[0], "the program did not respond to the signal to end")
            if not numbers:  # the other end is closed: the program ends by itself
                return
            signals += [number for number in numbers if number in ENDING]
            if len(signals) > 1:
                _end(signals[0], "interrupted twice")
            elif signals and not _PATIENT.is_set():
                receiver.settimeout(GRACE_S)


def _end(number: int, why: str) -> None:
    text = f"\n{why}: stopped at once; finished results are kept (bmz run --resume continues)\n"
    os.write(2, text.encode())
    os._exit(128 + number)


OUR_BUG = 70

COMMANDS = {
    "search": "Find models in the zoo, the most relevant first.",
    "list": "Same as search.",
    "show": "Describe a model, its inputs and its outputs.",
    "fetch": "Download models into the cache and verify them.",
    "check": "Check whether images fit a model before running it.",
    "compare": "Run several models and settings on images, and show them side by side.",
    "fit": "Rank all models in the zoo by how well they fit an image.",
    "open": "Open a local page to try models and settings on an image.",
    "run": "Predict label masks for images.",
    "test": "Test whether models reproduce their own test output here.",
    "score": "Measure how well label masks agree with ground truth.",
    "card": "Write a model card, including what is measured here.",
    "adopt": "Make packages of your own checkpoints.",
    "describe": "Propose what the description of a package is missing.",
    "init": "Write bmz.toml, which sets the model and options of every command here.",
    "trust": "Remember which models may run their own code.",
    "demo": "Run a bundled model on a bundled image; needs no network.",
    "cache": "Manage the cache; carry it to a computer without a network.",
    "mcp": "Offer search, show, check, fit, run and score to an MCP client.",
    "doctor": "Report what works here: devices, frameworks, versions.",
}
"""Name of each command and its line in the help, in the order of the help."""

OTHER_WORDS = {
    "help": "--help",
    "version": "--version",
    "view": "compare",
    "predict": "run",
    "segment": "run",
    "info": "show",
    "download": "fetch",
    "validate": "test",
    "rank": "fit",
    "evaluate": "score",
}
"""Other names that people may use for a command, and its name here."""

PLACES = {
    "search": ("models", "search"),
    "list": ("models", "list_models"),
    "show": ("models", "show"),
    "fit": ("models", "fit"),
    "test": ("models", "test"),
    "card": ("models", "card"),
    "adopt": ("authors", "adopt"),
    "describe": ("authors", "describe"),
    "init": ("project", "init"),
    "score": ("compare", "score"),
    "open": ("open", "open_page"),
    "fetch": ("computer", "fetch"),
    "cache": ("computer", "cache"),
    "trust": ("computer", "trust"),
    "doctor": ("computer", "doctor"),
    "demo": ("computer", "demo"),
}
"""Module and function of a command whose names differ from its own."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """List the commands in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, name = PLACES.get(cmd_name, (cmd_name, cmd_name))
        command: click.Command = getattr(import_module(f"bmz.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown word, suggest the nearest command."""
        word = args[0]
        if word in COMMANDS:
            name, command, words = super().resolve_command(ctx, args)
            if name is not None and command is not None:
                from bmz.cli.project import with_settings

                words = with_settings(ctx, name, command, words, COMMANDS)
            return name, command, words
        if word.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        near = OTHER_WORDS.get(word) or "".join(get_close_matches(word, COMMANDS, 1))
        meant = f": did you mean 'bmz {near}'?" if near else "."
        raise click.UsageError(f"There is no command '{word}'{meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 yes, 1 no, 2 wrong usage, 3 could not tell, 70 a bug in bmz.",
)
@click.version_option(
    None, "-V", "--version", package_name="bmz", prog_name="bmz", message="%(prog)s %(version)s"
)
def cli() -> None:
    """Run models of the BioImage Model Zoo: check the fit, predict, and get a label mask."""


_LACKED = "bmz.lacked"

_PLAIN = {
    "\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u", "\N{MULTIPLICATION SIGN}": "x",
    "\N{HORIZONTAL ELLIPSIS}": "...", "\N{EN DASH}": "-", "\N{EM DASH}": "-",
    "\N{RIGHTWARDS ARROW}": "->", "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=", "\N{PLUS-MINUS SIGN}": "+-",
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
}  # fmt: skip
"""Replacements for signs in descriptions and tables that every code page can show."""


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Spell out signs that a terminal's code page lacks; letters, as in a name, are escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacked = error.object[error.start : error.end]
    spelled = (_PLAIN.get(s) or s.encode("ascii", "backslashreplace").decode() for s in lacked)
    return "".join(spelled), error.end


codecs.register_error(_LACKED, _spelled)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_LACKED)
    warnings.showwarning = _say_warning
    # NumPy starts a thread per processor for matrix products, of which there are few here
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with interruptible():
        status = _flushed(status_of(sys.argv[1:] if arguments is None else arguments))
    sys.exit(status)


def _say_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning from a library on one line, without terminal control characters."""
    start = click.style("warning", fg="yellow", bold=True)
    click.echo(f"{start}: {printable(str(message))}", err=True)


def _flushed(status: int) -> int:
    """Flush stdout and report a failure here, before Python does so at exit."""
    try:
        sys.stdout.flush()
    except OSError as why:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status == 0:
            error = FolderNotWritable(None, why)
            say_error(error)
            return error.exit_status
    return status


def status_of(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; nothing is raised.

    Parameters
    ----------
    arguments : arguments of the command line, without ``bmz`` itself
    """
    try:
        with disk_faults_told():
            status = cli.main(args=list(arguments), prog_name="bmz", standalone_mode=False)
    except click.ClickException as error:
        say_usage_error(error)
        return error.exit_code
    except BmzError as error:
        say_error(error)
        return error.exit_status
    except (click.Abort, KeyboardInterrupt, Terminated) as ended:
        kept = "; finished results are kept (bmz run --resume continues)"
        click.echo(f"interrupted{kept if 'run' in arguments[:1] else ''}", err=True)
        return ended.exit_status if isinstance(ended, Terminated) else INTERRUPTED
    except MemoryError:
        say_memory()
        return 3
    except Exception:  # noqa: BLE001  (the last seam: whatever it is, it is a bug of ours)
        traceback.print_exc()
        say_bug()
        return OUR_BUG
    return int(status or 0)


def say_usage_error(error: click.ClickException) -> None:
    """Print a usage error like other errors, with a pointer to the help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
    click.echo(
        click.style("error", fg="red", bold=True) + f": {printable(error.format_message())}",
        err=True,
    )
    if context is not None:
        listed = "commands" if isinstance(context.command, click.Group) else "options"
        click.echo(f"  hint: {context.command_path} --help lists the {listed}", err=True)


def say_error(error: BmzError) -> None:
    """Print an error and its hint on stderr, on two lines."""
    told = printable(with_given_names(str(error)))
    click.echo(click.style("error", fg="red", bold=True) + f": {told}", err=True)
    if error.hint:
        hint = for_this_environment(error.hint)
        click.echo(f"  hint: {printable(with_given_names(hint))}", err=True)


def say_memory() -> None:
    """Report that the memory is full."""
    click.echo(
        "error: the image does not fit into the memory of this computer [memory.full]", err=True
    )
    click.echo("  hint: close other programs, crop the image, or choose a smaller --tile", err=True)


def say_bug() -> None:
    """Report that the traceback is a bug in bmz."""
    click.echo(f"\nThis is a bug in bmz {version()}, not your mistake.", err=True)
    click.echo("  hint: please report it, with the lines above and the command", err=True)
