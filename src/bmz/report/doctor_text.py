"""What works on this computer, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bmz.report.model_text import Row
from bmz.report.text import document_text
from bmz.results.show import DoctorView, FormatView

if TYPE_CHECKING:
    from bmz.results.documents import DoctorDocument


def doctor_rows(view: DoctorView) -> list[Row]:
    """Tell it row by row; what is missing comes with the line that installs it."""
    memory = "unknown" if view.memory_bytes is None else f"{view.memory_bytes / 2**30:.1f} GiB"
    cores = f"{view.cpus} processor core{'s' * (view.cpus != 1)}"
    rows = [
        ("bmz", view.versions["bmz"]),
        ("python", f"{view.versions['python']} on {view.system}"),
        ("computer", f"{cores} to use, {memory} of memory"),
        ("cache", f"{view.cache} ({view.cache_bytes / 1e6:.1f} MB)"),
    ]
    for entry in view.formats:
        rows += _format_rows(entry)
    rows.append(("own code", _confinement_words(view.confinement)))
    libraries = {k: v for k, v in view.versions.items() if k not in {"bmz", "python"}}
    rows.append(
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()))
    )
    rows.append(("bundled", ", ".join(view.starters) or "no model"))
    return rows


def _format_rows(entry: FormatView) -> list[Row]:
    if entry.version is None:
        return [(entry.format, f"no {entry.framework}"), ("", f"to run it: {entry.install}")]
    if entry.trouble:
        return [(entry.format, entry.trouble)]
    return [(entry.format, f"{entry.framework} {entry.version} on {', '.join(entry.devices)}")]


def _confinement_words(confinement: Mapping[str, str]) -> str:
    lacks = "; ".join(dict.fromkeys(why for why in confinement.values() if why))
    if lacks:
        return f"of models cannot be shut in here ({lacks}); only --trust=unconfined runs it"
    return "of models that you trust runs shut in"


def doctor_json(view: DoctorView) -> str:
    """Give all of it as one document."""
    document: DoctorDocument = {
        "schema": "bmz.doctor/1",
        "versions": view.versions,
        "system": view.system,
        "cpus": view.cpus,
        "memory_bytes": view.memory_bytes,
        "cache": view.cache,
        "cache_bytes": view.cache_bytes,
        "formats": view.formats,
        "starters": view.starters,
        "confinement": view.confinement,
    }
    return document_text(document)
