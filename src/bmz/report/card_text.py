"""A model card in Markdown: what a model wants and gives, and what was measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bmz.report.model_text import Row, model_rows
from bmz.report.tested_text import status_words
from bmz.results.card import CardView

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "What it wants": ("input", "pixels", "objects", "images"),
    "What it gives": ("task", "output", "maps", "labels"),
    "What it needs": ("weights", "runs code"),
    "Whose it is": ("licence", "cite", "tags"),
    "Known defects": ("defects",),
    "Which one it is": ("identity",),
}
"""Headings of the card, and which rows of ``bmz show`` stand under each."""

NAMED = frozenset({"runs code", "licence", "cite", "tags", "task"})
"""Rows that say little without their name."""


def card_text(card: CardView) -> str:
    """Give the card in Markdown."""
    model = card.view.model
    rows = _under_headings(model_rows(card.view))
    parts = [f"# Model card: {model.id}", _plain(model.description or model.name)]
    for heading, names in SECTIONS.items():
        texts = [
            f"{name}: {text}" if name in NAMED else text
            for name in names
            for text in rows.get(name, ())
        ]
        if texts:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {_plain(text)}" for text in texts))
    parts.append("## Measured\n\n" + "\n\n".join(_measured(card)))
    told = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    parts.append(f"Measured on {card.date} by `bmz card` with {told}.")
    return "\n\n".join(parts) + "\n"


def _under_headings(rows: Iterable[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    heading = ""
    for name, text in rows:
        heading = name or heading
        found.setdefault(heading, []).append(text.removeprefix("- "))
    return found


def _measured(card: CardView) -> Iterator[str]:
    yield f"`bmz test`: **{status_words(card.tested)}**."
    checks = ((f"`{c.name}`", c.status, c.detail) for c in card.tested.checks)
    yield _table(("check", "result", "figures"), checks)
    if card.speeds:
        yield "The network alone, on its own test input:"
        rows = (
            (f"`{s.format}`", s.backend, s.device, f"{s.megapixels_per_s:.2f}") for s in card.speeds
        )
        yield _table(("weights", "by", "on", "megapixels/s"), rows)
    if card.sizes:
        s = card.sizes
        yield (
            f"Objects of the test input, by the recipe `{s.recipe}`: {s.count}, with diameters of "
            f"{s.low_px:.1f} to {s.high_px:.1f} px (5 % to 95 %), median {s.median_px:.1f} px."
        )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Keep text of a model from being read as HTML, and on one line."""
    return " ".join(text.replace("<", "&lt;").split())
