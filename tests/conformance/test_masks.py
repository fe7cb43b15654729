"""Every segmenting model gives a label mask, or the page says what it needs."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.masks import page, ways

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "zoo-masks.md"


def test_every_segmenting_model_has_a_recipe_or_is_told_what_it_needs(shared: Path) -> None:
    found = ways(shared)

    assert PAGE.read_text(encoding="utf-8") == page(found)
    assert len(found) == 106
    assert sum(way.by_evidence for way in found) >= 98
    assert all(way.needs for way in found if not way.by_evidence or way.recipe == "prompts")
