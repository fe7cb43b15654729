"""Output about this computer: downloads, the cache, and what works here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bmz.base.computer import for_this_environment
from bmz.report.text import Line, Row, document_text, failure_of
from bmz.results.models import DoctorView, FetchFailure, FetchSummary, FormatView, ModelFetch
from bmz.zoo.cache import CachedPackage, CarriedPackages, FileState, RemovedPackages

if TYPE_CHECKING:
    from bmz.results.model_documents import (
        CacheArchiveDocument,
        CacheDocument,
        CacheRemoveDocument,
        CacheVerifyDocument,
        DoctorDocument,
        FetchDocument,
        FetchedModel,
    )


_THOUSAND = 1000


def size_words(size: int | None) -> str:
    """Format a number of bytes.

    Examples
    --------
    >>> size_words(812), size_words(1_234_000), size_words(None)
    ('812 B', '1.2 MB', 'size unknown')
    """
    if size is None:
        return "size unknown"
    if size < _THOUSAND:
        return f"{size} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if round(size / factor, 1) < _THOUSAND:  # never 1000.0 kB
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e9:.1f} GB"


def files_words(count: int) -> str:
    """Format a number of files."""
    return f"{count} file{'s' * (count != 1)}"


def ahead_words(model: str, sizes: Mapping[str, int | None]) -> str:
    """Describe what is about to be downloaded.

    Parameters
    ----------
    sizes : sizes of the files in bytes; None if unknown
    """
    known = [size for size in sizes.values() if size is not None]
    least = "at least " if known and None in sizes.values() else ""
    total = size_words(sum(known) if known else None)
    files = ", ".join(f"{name} {size_words(size)}" for name, size in sizes.items())
    return f"{model}: {files_words(len(sizes))} to download, {least}{total} ({files})"


def fetch_lines(summary: FetchSummary) -> list[Line]:
    """Report every model."""
    lines: list[Line] = []
    for outcome in summary.outcomes:
        if isinstance(outcome, FetchFailure):
            lines += [("error", str(outcome.error)), ("hint", outcome.error.hint)]
        else:
            lines += _fetched(outcome)
    return lines


def _fetched(done: ModelFetch) -> list[Line]:
    new = [file for file in done.files if file.action != "cached"]
    what = ", ".join(done.weights) or "no weights"
    loaded = f"{size_words(sum(file.bytes for file in new))} downloaded" if new else "nothing new"
    lines = [("answer", f"{done.model}: {what}, {files_words(len(done.files))}, {loaded}")]
    lines += [
        (
            "warning",
            f"{file.name} of {done.model} is not the file described: its sha256 is {file.sha256}",
        )
        for file in done.files
        if file.action == "changed-allowed"
    ]
    return [*lines, ("answer", f"  {done.folder}")]


def fetch_json(summary: FetchSummary) -> str:
    """Return the JSON document."""
    models = [_values(outcome) for outcome in summary.outcomes]
    document: FetchDocument = {"schema": "bmz.fetch/1", "models": models}
    return document_text(document)


def _values(outcome: ModelFetch | FetchFailure) -> FetchedModel:
    if isinstance(outcome, FetchFailure):
        return {"model": outcome.model, "status": "failed", "error": failure_of(outcome.error)}
    return {
        "status": "fetched",
        "model": outcome.model,
        "folder": outcome.folder,
        "weights": outcome.weights,
        "files": outcome.files,
        "error": None,
    }


HEADINGS = ("model", "version", "sha256", "files", "size", "place")
_SHOWN = 12  # characters of a sha256, enough to distinguish packages


def cache_table(packages: Sequence[CachedPackage]) -> list[tuple[str, ...]]:
    """Return one row of cells per package, under the headings `HEADINGS`."""
    return [
        (
            package.id,
            package.version,
            package.sha256[:_SHOWN],
            str(package.files),
            size_words(package.bytes),
            f"layer {package.folder}" if package.read_only else "cache",
        )
        for package in packages
    ]


def cache_summary(packages: Sequence[CachedPackage]) -> str:
    """Return the number of packages and their size on one line."""
    return f"{_counted(packages)}, {size_words(sum(package.bytes for package in packages))}"


def _counted(packages: Sequence[object]) -> str:
    return f"{len(packages)} model{'s' * (len(packages) != 1)}"


def cache_json(packages: Sequence[CachedPackage]) -> str:
    """Return the JSON document."""
    document: CacheDocument = {"schema": "bmz.cache/1", "packages": packages}
    return document_text(document)


def verify_lines(states: Sequence[FileState]) -> list[Line]:
    """List damaged files, then the counts; a file without a stated sha256 counts as neither."""
    damaged = [state for state in states if state.status == "damaged"]
    lines = [
        ("error", f"{s.name} of {s.package} is damaged: {s.why or _hashes(s)}") for s in damaged
    ]
    if damaged:
        lines.append(("hint", "bmz fetch downloads it again; bmz cache remove removes it"))
    whole = sum(state.status == "whole" for state in states)
    unknown = len(states) - len(damaged) - whole
    untold = f"; {unknown} without a stated sha256" if unknown else ""
    return [*lines, ("answer", f"{whole} of {len(states)} files are intact{untold}")]


def _hashes(state: FileState) -> str:
    return f"wanted sha256 {state.wanted}, found {state.found}"


def cache_notes(packages: Sequence[CachedPackage]) -> list[Line]:
    """List the packages whose origin is no longer known."""
    note = "the note about its origin cannot be read; bmz fetch MODEL writes it again"
    return [("note", f"{p.sha256[:_SHOWN]}: {note}") for p in packages if p.note_damaged]


def verify_json(states: Sequence[FileState]) -> str:
    """Return the JSON document."""
    document: CacheVerifyDocument = {"schema": "bmz.cache-verify/1", "files": states}
    return document_text(document)


def removed_words(removed: RemovedPackages) -> str:
    """Describe what was removed."""
    names = ", ".join(package.id for package in removed.packages)
    return f"removed {_counted(removed.packages)} ({names}), {size_words(removed.bytes)}"


def removed_json(removed: RemovedPackages) -> str:
    """Return the JSON document."""
    document: CacheRemoveDocument = {
        "schema": "bmz.cache-remove/1",
        "packages": removed.packages,
        "bytes": removed.bytes,
    }
    return document_text(document)


def carried_words(verb: str, carried: CarriedPackages) -> str:
    """Describe what an archive contains.

    Parameters
    ----------
    verb : ``exported`` or ``imported``
    """
    size = f"{files_words(carried.files)}, {size_words(carried.bytes)}"
    return f"{verb} {_counted(carried.packages)}, {size}: {carried.archive}"


def carried_json(carried: CarriedPackages) -> str:
    """Return the JSON document."""
    document: CacheArchiveDocument = {
        "schema": "bmz.cache-archive/1",
        "archive": str(carried.archive),
        "packages": carried.packages,
        "files": carried.files,
        "bytes": carried.bytes,
    }
    return document_text(document)


def doctor_rows(view: DoctorView) -> list[Row]:
    """Describe this computer row by row; a missing framework comes with its install command."""
    memory = "unknown" if view.memory_bytes is None else f"{view.memory_bytes / 2**30:.1f} GiB"
    cores = f"{view.cpus} processor core{'s' * (view.cpus != 1)}"
    rows = [
        ("bmz", view.versions["bmz"]),
        ("python", f"{view.versions['python']} on {view.system}"),
        ("computer", f"{cores} available, {memory} of memory"),
        ("cache", f"{view.cache} ({view.cache_bytes / 1e6:.1f} MB)"),
    ]
    for entry in view.formats:
        rows += _format_rows(entry)
        same = [other for other in view.others if other.format == entry.format]
        rows += [row for other in same for row in _other_rows(other)]
    rows.append(("own code", _confinement_words(view.confinement)))
    libraries = {k: v for k, v in view.versions.items() if k not in {"bmz", "python"}}
    rows.append(
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()))
    )
    rows.append(("bundled", ", ".join(view.starters) or "no model"))
    return rows


def _format_rows(entry: FormatView) -> list[Row]:
    if entry.version is None:
        return [
            (entry.format, f"no {entry.framework}"),
            ("", f"to install it: {for_this_environment(entry.install)}"),
        ]
    if entry.trouble:
        return [(entry.format, entry.trouble)]
    return [(entry.format, f"{entry.framework} {entry.version} on {', '.join(entry.devices)}")]


def _other_rows(entry: FormatView) -> list[Row]:
    """Describe a further framework, without which the format also runs."""
    if entry.version is None:
        return [
            ("", f"no {entry.framework}, which may be faster on a CPU:"),
            ("", for_this_environment(entry.install)),
        ]
    return [("", words) for _, words in _format_rows(entry)]


def _confinement_words(confinement: Mapping[str, str]) -> str:
    lacks = "; ".join(dict.fromkeys(why for why in confinement.values() if why))
    if lacks:
        return f"of models cannot be sandboxed here ({lacks}); it runs only with --trust=unconfined"
    return "of models that you trust runs in a sandbox"


def doctor_json(view: DoctorView) -> str:
    """Return the JSON document."""
    document: DoctorDocument = {
        "schema": "bmz.doctor/1",
        "versions": view.versions,
        "system": view.system,
        "cpus": view.cpus,
        "memory_bytes": view.memory_bytes,
        "cache": view.cache,
        "cache_bytes": view.cache_bytes,
        "formats": view.formats,
        "others": view.others,
        "starters": view.starters,
        "confinement": view.confinement,
    }
    return document_text(document)
