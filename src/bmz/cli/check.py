"""``bmz check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bmz.base.errors import BmzError
from bmz.cli.completion import offered_codes, offered_files, offered_models
from bmz.cli.options import (
    AXES_HELP,
    CHANNELS,
    PIXEL_SIZE,
    SCALE,
    ImageOptions,
    TrustingCommand,
    Word,
    as_path,
    dataset_option,
    image_list,
    include_option,
    input_option,
    kind_option,
    series_option,
    trust_option,
    try_seconds_option,
    verbosity_options,
)
from bmz.engine.request import RunRequest, TrialOptions, is_chain

if TYPE_CHECKING:
    from bmz.base.progress import Listener
    from bmz.report.text import Line
    from bmz.results.images import CheckSummary

DOCUMENTS = ("json", "junit", "sarif", "github")


def _document(text: str) -> tuple[str, Path]:
    form, equals, file = text.partition("=")
    if not (equals and file.strip() and form.strip() in DOCUMENTS):
        raise ValueError(
            f"'{text}' does not have the form FORMAT=FILE, such as sarif=bmz.sarif; formats are "
            f"{', '.join(DOCUMENTS)}"
        )
    return form.strip(), as_path(file.strip())


WRITTEN = Word("FORMAT=FILE", _document)
"""``sarif=bmz.sarif``: a document, and the file that holds it."""

EPILOG = """\b
Exit status: 0 every image fits (as it is, adapted, or with warnings), 1 at least one does not fit,
2 wrong usage, 3 an image could not be checked (not found, unreadable)."""


def _explain(ctx: click.Context, _param: click.Parameter, code: str | None) -> None:
    if code is None:
        return
    from bmz.check.codes import explain
    from bmz.cli.columns import print_rows
    from bmz.report.check_text import explanation_rows

    print_rows(explanation_rows(code, explain(code)))
    ctx.exit(0)


@click.command(cls=TrustingCommand, epilog=EPILOG)
@click.argument(
    "model",
    shell_complete=offered_models,
    help="Name, DOI, URL or path of a model (see bmz search), or a chain of models: FILE.toml.",
)
@click.argument(
    "images",
    shell_complete=offered_files,
    nargs=-1,
    required=True,
    metavar="IMAGE...",
    help="Files, OME-Zarr, folders of images, patterns in quotes, @list.txt, or - for stdin.",
)
@include_option
@series_option
@dataset_option
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option(
    "--channels",
    type=CHANNELS,
    help="Image channel for each model channel, such as 1 or DAPI,GFP.",
)
@input_option
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@click.option("--scale", type=SCALE, help="The factor by which the image would be resized.")
@kind_option
@click.option("--every", is_flag=True, help="Read the pixels of every image, not only of 32.")
@click.option("--try", "tried", is_flag=True, help="Run the model on crops and judge its mask.")
@click.option(
    "--pictures",
    metavar="FOLDER",
    help="With --try: keep a picture of the crop that looks worst.",
)
@try_seconds_option("With --try: test no further cure for an image after this time.")
@trust_option
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.option(
    "--contract",
    "contract",
    metavar="FILE",
    help="Check the images, and what the model finds in them, against this contract.",
)
@click.option(
    "--lock",
    metavar="FILE",
    help="Write a contract from these images, known to be good; replaces FILE.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", *DOCUMENTS]),
    default="text",
    show_default=True,
    help="Text, or a document for other programs.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--write",
    "written",
    type=WRITTEN,
    multiple=True,
    help="Also write a document to a file, such as sarif=bmz.sarif; repeatable.",
)
@click.option(
    "--explain",
    metavar="CODE",
    is_eager=True,
    expose_value=False,
    callback=_explain,
    shell_complete=offered_codes,
    help="Explain the cause of a finding and the fix, and stop.",
)
@verbosity_options
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    model: str,
    images: tuple[str, ...],
    include: tuple[str, ...],
    dataset: str | None,
    series: str,
    inputs: tuple[tuple[str, str], ...],
    pixel_um: Mapping[str, float] | None,
    every: bool,
    tried: bool,
    pictures: str | None,
    try_seconds: float,
    strict: bool,
    contract: str | None,
    lock: str | None,
    form: str,
    as_json: bool,
    written: tuple[tuple[str, Path], ...],
    **options: Unpack[ImageOptions],
) -> None:
    """Check whether each IMAGE fits MODEL: axes, channels, dtype, range, scale, size."""
    from bmz.app import check as checks  # here, so that --help never loads NumPy
    from bmz.cli.output import progress_bars

    if pictures is not None and not tried:
        raise click.UsageError("--pictures needs --try: without a trial there is nothing to show")
    if is_chain(model) and (contract or lock):
        raise click.UsageError("a contract covers one model: leave out --contract and --lock.")
    folder = None if pictures is None else as_path(pictures)
    trial = TrialOptions(folder, try_seconds) if tried else None
    one_or_chain = checks.check_chain if is_chain(model) else checks.check
    check_all = partial(one_or_chain, every=every, trial=trial)
    form = "json" if as_json else form
    with _failure_documented(model, form, written), progress_bars("checking") as listener:
        listing = image_list(images, include, dataset)
        request = RunRequest(
            model, listing.images, as_path("."), absent=listing.absent, names=listing.names,
            inputs=dict(inputs), pixel_um=pixel_um or {}, series=series, **options,
        )  # fmt: skip
        if contract is not None:
            summary = _held(request, contract, listener, check_all)
        else:
            summary = check_all(request, listener)
        locked = None if lock is None else _lock(request, summary, lock, listener)
    summary = checks.strict(summary) if strict else summary
    _print(summary, form, locked, written)
    ctx.exit(summary.exit_status)


def _held(
    request: RunRequest,
    file: str,
    listener: Listener,
    check_all: Callable[[RunRequest, Listener], CheckSummary],
) -> CheckSummary:
    from bmz.app.check.contract import held, with_words
    from bmz.report.contract_text import read_contract

    contract = read_contract(as_path(file))
    told = with_words(request, contract)
    return held(check_all(told, listener), told, contract, listener)


def _lock(request: RunRequest, summary: CheckSummary, file: str, listener: Listener) -> str:
    """Write a contract, and return one line that says what it requires."""
    from bmz.app.check.contract import locked
    from bmz.base.files import write_whole_text
    from bmz.report.contract_text import contract_toml, contract_words

    contract = locked(summary, request, listener)
    write_whole_text(as_path(file), contract_toml(contract))
    return f"wrote {file}: {contract_words(contract)}"


@contextmanager
def _failure_documented(
    model: str, form: str, written: Sequence[tuple[str, Path]]
) -> Iterator[None]:
    """Write the reason into every document when nothing can be checked, and re-raise the error."""
    try:
        yield
    except BmzError as why:
        from bmz.report.check_text import failed_documents

        documents = failed_documents(why, model)
        _write({name: partial(str, text) for name, text in documents.items()}, written)
        if form in documents:
            click.echo(documents[form])
        raise


def _write(documents: Mapping[str, Callable[[], str]], written: Sequence[tuple[str, Path]]) -> None:
    from bmz.base.files import disk_faults_told, write_whole_text

    for name, path in written:
        if name in documents:
            with disk_faults_told(path.parent):
                write_whole_text(path, documents[name]() + "\n")


def _print(
    summary: CheckSummary,
    form: str,
    locked: str | None,
    written: Sequence[tuple[str, Path]],
) -> None:
    from bmz.cli.output import say, verbosity
    from bmz.report.check_text import (
        check_github,
        check_json,
        check_junit,
        check_lines,
        check_sarif,
    )

    documents = {
        "json": check_json,
        "junit": check_junit,
        "sarif": check_sarif,
        "github": check_github,
    }
    _write({name: partial(document, summary) for name, document in documents.items()}, written)
    if form in documents:
        click.echo(documents[form](summary))
        say([] if locked is None else [("note", locked)])
    else:
        more: list[Line] = [] if locked is None else [("answer", locked)]
        say([*check_lines(summary, verbosity()), *more], all_on_stdout=True)
