"""What was fetched, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bmz.report.text import Line, document_text, failure_of
from bmz.results.fetch import Fetched, FetchSummary, NotFetched

if TYPE_CHECKING:
    from bmz.results.documents import FetchDocument, FetchedModel


def size_words(size: int | None) -> str:
    """Say a number of bytes.

    Examples
    --------
    >>> size_words(812), size_words(1_234_000), size_words(None)
    ('812 B', '1.2 MB', 'size unknown')
    """
    if size is None:
        return "size unknown"
    if size < 1000:  # noqa: PLR2004  (bytes are told one by one)
        return f"{size} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if round(size / factor, 1) < 1000:  # noqa: PLR2004  (as it is told: never 1000.0 kB)
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"


def files_words(count: int) -> str:
    """Say a number of files."""
    return f"{count} file{'s' * (count != 1)}"


def ahead_words(model: str, sizes: Mapping[str, int | None]) -> str:
    """Say what is about to be downloaded.

    Parameters
    ----------
    sizes : of the files, in bytes; None where nobody says it
    """
    known = [size for size in sizes.values() if size is not None]
    least = "at least " if known and None in sizes.values() else ""
    total = size_words(sum(known) if known else None)
    files = ", ".join(f"{name} {size_words(size)}" for name, size in sizes.items())
    return f"{model}: {files_words(len(sizes))} to download, {least}{total} ({files})"


def fetch_lines(summary: FetchSummary) -> list[Line]:
    """Tell of every model."""
    lines: list[Line] = []
    for outcome in summary.outcomes:
        if isinstance(outcome, NotFetched):
            lines += [("error", str(outcome.error)), ("hint", outcome.error.hint)]
        else:
            lines += _fetched(outcome)
    return lines


def _fetched(done: Fetched) -> list[Line]:
    new = [file for file in done.files if file.action != "cached"]
    what = ", ".join(done.weights) or "no weights"
    loaded = f"{size_words(sum(file.bytes for file in new))} downloaded" if new else "nothing new"
    lines = [("answer", f"{done.model}: {what}, {files_words(len(done.files))}, {loaded}")]
    lines += [
        ("warning", f"{file.name} of {done.model} is not the file described; found {file.sha256}")
        for file in done.files
        if file.action == "changed-allowed"
    ]
    return [*lines, ("answer", f"  {done.folder}")]


def fetch_json(summary: FetchSummary) -> str:
    """Give all of it as one document."""
    models = [_values(outcome) for outcome in summary.outcomes]
    document: FetchDocument = {"schema": "bmz.fetch/1", "models": models}
    return document_text(document)


def _values(outcome: Fetched | NotFetched) -> FetchedModel:
    if isinstance(outcome, NotFetched):
        return {"model": outcome.model, "status": "failed", "error": failure_of(outcome.error)}
    return {
        "status": "fetched",
        "model": outcome.model,
        "folder": outcome.folder,
        "weights": outcome.weights,
        "files": outcome.files,
        "error": None,
    }
