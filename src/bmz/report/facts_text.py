"""What is known of a model beyond its description, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bmz.spec.facts import Fact, Facts, facts_of
from bmz.spec.model import ModelSpec
from bmz.spec.pixels import known_diameter_px, known_pixel_size

MOST = 4
"""So many channels are named one by one."""


def facts_rows(model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield headings and texts: pixel size and objects, what images show, what the maps mean."""
    yield "pixels", _pixels(model)
    facts = _facts(model)
    if facts.polarity is not None:
        yield "objects", f"{facts.polarity.value} beside what surrounds them{_by(facts.polarity)}"
    if facts.channels is not None:
        yield "images", f"{_listed(facts.channels.value)}{_by(facts.channels)}"
    if facts.output_channels is not None:
        yield "maps", f"{_listed(facts.output_channels.value)}{_by(facts.output_channels)}"


def facts_values(model: ModelSpec) -> dict[str, Any]:
    """Give every curated fact with its value and source; those that are not known are left out."""
    return {name: told for name, told in asdict(_facts(model)).items() if told is not None}


def _facts(model: ModelSpec) -> Facts:
    found = facts_of(model.alias) if model.alias else None
    return found or Facts()


def _pixels(model: ModelSpec) -> str:
    size = known_pixel_size(model)
    if size.um:
        words = ", ".join(f"{axis} {um:.4g} um" for axis, um in size.um.items())
        return f"{words}; {size.source}" if size.source else words
    diameter = known_diameter_px(model)
    if diameter is None:
        return "no pixel size declared"
    return f"no pixel size declared; made for objects of about {diameter.value:g} px{_by(diameter)}"


def _by(fact: Fact[Any]) -> str:
    return f"; {fact.source}" if fact.source else ""


def _listed(names: tuple[str, ...]) -> str:
    shown = names if len(names) <= MOST else (*names[:2], "...", names[-1])
    return ", ".join(shown)
