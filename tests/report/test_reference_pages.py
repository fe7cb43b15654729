from __future__ import annotations

import re
from pathlib import Path

import pytest

from bmz.base.axes import Step
from bmz.check.codes import CODES
from bmz.process.ops import OPS
from bmz.report.model_text import step_words
from bmz.report.reference import findings_page, recipes_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_page_of_recipes_is_that_of_the_code() -> None:
    page = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")

    assert page == recipes_page()


def test_the_page_of_findings_is_that_of_the_code() -> None:
    page = (DOCS / "reference" / "findings.md").read_text(encoding="utf-8")

    assert page == findings_page()


def test_every_code_that_the_check_yields_has_a_page() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src/bmz/check").glob("*.py"))
    groups = {code.split(".")[0] for code in CODES}
    codes = set(re.findall(rf'"((?:{"|".join(groups)})\.[a-z-]+)"', source))

    assert len(codes) >= 20
    assert codes <= set(CODES)


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "model_cards").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert dead == []


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_declared_step_has_plain_words(name: str) -> None:
    step = Step(name, {"axis": "c", "threshold": 0.5, "dtype": "uint8"})

    assert step_words(step) != str(step)


def test_words_of_a_stretch_name_percentiles_and_axes() -> None:
    step = Step("scale_range", {"axes": ("y", "x"), "min_percentile": 1.0, "max_percentile": 99.8})

    assert step_words(step) == "normalise: percentiles 1 to 99.8 become 0 to 1, over y, x together"
