"""The models that were found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bmz.report.text import document_text
from bmz.results.search import SearchHit, SearchView
from bmz.spec.made_for import MadeFor

if TYPE_CHECKING:
    from bmz.results.documents import FoundModel, Listing, MadeForRecord, SearchDocument


HEADINGS = ("model", "made for", "task", "weights", "here", "labels", "name")

NAME = HEADINGS.index("name")
"""The column of a model's own name, which stands below its alias where there is little room."""

SHORT_FORMATS: Mapping[str, str] = {
    "pytorch_state_dict": "pytorch",
    "tensorflow_saved_model_bundle": "tensorflow",
    "keras_hdf5": "keras",
    "keras_v3": "keras",
    "tensorflow_js": "tfjs",
}
"""Names of weights formats for a table; others are short enough."""


def search_table(view: SearchView) -> list[tuple[str, ...]]:
    """Give a line of cells for each model, under the headings `HEADINGS`."""
    return [_cells(found) for found in view.hits]


def _cells(found: SearchHit) -> tuple[str, ...]:
    card = found.card
    if card.status != "ok":
        return (card.id, card.reason or "", card.status, "", "", "", "")
    weights = dict.fromkeys(SHORT_FORMATS.get(name, name) for name in card.weights)
    return (
        card.id,
        card.made_for.title,
        " ".join(word for word in (card.dims, card.task) if word),
        ", ".join(weights),
        "yes" if found.runs_here else "",
        card.labels or "",
        " ".join(card.name.split()),
    )


def made_for_record(made: MadeFor) -> MadeForRecord:
    """Give the kind of image that a model is made for, with its source."""
    return {"modalities": made.modalities, "structures": made.structures, "source": made.source}


def search_summary(view: SearchView) -> str:
    """Say in one line how many there are, and how old the list is."""
    age = " (old: it could not be read again)" if view.stale else ""
    return f"{len(view.hits)} of {view.of} models, as listed {_day(view)}{age}"


def _day(view: SearchView) -> str:
    return datetime.fromtimestamp(view.fetched_at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def search_json(view: SearchView) -> str:
    """Give all of it as one document."""
    document: SearchDocument = {
        "schema": "bmz.search/1",
        "models": [_values(found) for found in view.hits],
        **listing(view.of, view.fetched_at, stale=view.stale),
    }
    return document_text(document)


def listing(of: int, fetched_at: float, *, stale: bool) -> Listing:
    """Give how old a list of models is.

    Parameters
    ----------
    of : how many models it has
    fetched_at : seconds since 1970
    stale : it is old, and a new one could not be had
    """
    listed_at = datetime.fromtimestamp(fetched_at, UTC).isoformat(timespec="seconds")
    return {"of": of, "listed_at": listed_at, "stale": stale}


def _values(found: SearchHit) -> FoundModel:
    card = found.card
    return {
        "id": card.id,
        "version": card.version,
        "sha256": card.sha256,
        "aliases": card.aliases,
        "status": card.status,
        "reason": card.reason,
        "name": card.name,
        "description": card.description,
        "task": card.task,
        "dims": card.dims,
        "weights": card.weights,
        "tags": card.tags,
        "labels": card.labels,
        "made_for": made_for_record(card.made_for),
        "runs_here": found.runs_here,
        "score": round(found.score, 3),
    }
