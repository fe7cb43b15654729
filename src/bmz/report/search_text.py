"""The models that were found, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bmz.results.search import Found, SearchView

HEADINGS = ("model", "dims", "task", "weights", "here", "labels", "name")

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
    return [_cells(found) for found in view.found]


def _cells(found: Found) -> tuple[str, ...]:
    card = found.card
    if card.status != "ok":
        return (card.id, "", card.status, "", "", "", card.reason or "")
    weights = dict.fromkeys(SHORT_FORMATS.get(name, name) for name in card.weights)
    return (
        card.id,
        card.dims or "",
        card.task or "",
        ", ".join(weights),
        "yes" if found.runs_here else "",
        card.labels or "",
        " ".join(card.name.split()),
    )


def search_summary(view: SearchView) -> str:
    """Say in one line how many there are, and how old the list is."""
    age = " (old: it could not be read again)" if view.stale else ""
    return f"{len(view.found)} of {view.of} models, as listed {_day(view)}{age}"


def _day(view: SearchView) -> str:
    return datetime.fromtimestamp(view.fetched_at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def search_json(view: SearchView) -> str:
    """Give all of it as one document."""
    document: dict[str, Any] = {
        "schema": "bmz.search/1",
        "models": [
            {**asdict(found.card), "runs_here": found.runs_here, "score": round(found.score, 3)}
            for found in view.found
        ],
        "of": view.of,
        "listed_at": datetime.fromtimestamp(view.fetched_at, UTC).isoformat(timespec="seconds"),
        "stale": view.stale,
    }
    return json.dumps(document, indent=2)
