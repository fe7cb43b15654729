"""Pages, messages, help and docstrings are free of phrases that readers stumbled over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SWAPS = yaml.safe_load((ROOT / "share/vale/bmz/Words.yml").read_text(encoding="utf-8"))["swap"]
RULES = {re.compile(found, re.IGNORECASE): instead for found, instead in SWAPS.items()}

PAGES = [ROOT / "README.md", ROOT / "action.yml", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "src").rglob("*.py"))
ASSETS = sorted((ROOT / "src/bmz/report/assets").glob("*.html"))


def faults(text: str) -> list[str]:
    """Give what is said otherwise in plain English, with what to say."""
    plain = " ".join(text.split())
    return [
        f"'{match[0]}': write '{instead}'"
        for rule, instead in RULES.items()
        for match in rule.finditer(plain)
    ]


def texts(module: Path) -> Iterator[str]:
    """Yield every text of a module, the parts of one that is put together as one."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            yield "{}".join(map(str, parts))


@pytest.mark.parametrize("page", [*PAGES, *ASSETS], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_it_plainly(page: Path) -> None:
    assert faults(page.read_text(encoding="utf-8")) == []


def test_every_message_and_docstring_says_it_plainly() -> None:
    told = {
        f"{module.relative_to(ROOT)}: {fault}"
        for module in MODULES
        for text in texts(module)
        for fault in faults(text)
    }

    assert sorted(told) == []


@pytest.mark.parametrize(
    "text",
    [
        "354 px is no legal size (256 + 16n)",
        "a table with one row a nucleus",
        "'abc' is no float",
        "lines are\n  dealt out among workers",
    ],
)
def test_a_phrase_of_the_list_is_found(text: str) -> None:
    assert len(faults(text)) == 1
