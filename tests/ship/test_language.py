"""Pages, messages, help and docstrings are free of phrases that readers stumbled over."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SWAPS = yaml.safe_load((ROOT / "share/vale/bmz/Words.yml").read_text(encoding="utf-8"))["swap"]
RULES = {
    re.compile(rf"\b(?:{found})\b", re.IGNORECASE): instead for found, instead in SWAPS.items()
}

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "action.yml")),
    *sorted(
        path for room in ("docs", "model_cards", "src") for path in (ROOT / room).rglob("*.md")
    ),
]
MODULES = sorted((ROOT / "src").rglob("*.py"))
ASSETS = sorted((ROOT / "src").rglob("*.html"))

STUMBLED_OVER = """
354 px is no legal size (256 + 16n)
neither the model nor the image states a pixel size
fits; bmz run adapts what the notes say
of 155 models 3 fit with what bmz run adapts
the model takes no z
the model takes no time: there are 8
each of the 31 planes is run by itself
a table with one row a nucleus
a channel of its own, one a channel
one letter an axis
made of the same image by the same words
100% of its objects look like single ones
a guess without the truth
it agrees and stays when the image is changed a little
the nearest to the truth
a model that runs shut in
lines are dealt out among workers
all with all
tells cause and cure
[default: by evidence]
Over each other
Light or dark
nothing is overwritten unasked
Beside it lie the labels
results lie as the fields do
where nothing lies
'abc' is no float
is no baseline
is no whole number
stretch percentiles 1 to 99
loaded anew
it hangs on the image
memory is let go of
a colour photograph
The walk of an image
The tab key, and man
Hold images and models to a contract
""".strip().splitlines()


def faults(text: str) -> list[str]:
    """Give what is said otherwise in plain English, with what to say."""
    return [
        f"'{match[0]}': write '{instead}'"
        for rule, instead in RULES.items()
        for match in rule.finditer(text)
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


@pytest.mark.parametrize("text", STUMBLED_OVER)
def test_a_phrase_of_the_list_is_found(text: str) -> None:
    assert len(faults(text)) == 1
    assert len(faults(text.replace(" ", "\n    "))) == 1


def test_no_option_takes_a_word() -> None:
    told = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")

    assert re.findall(r"^ +--[a-z-]+ WORDS?\b", told, re.MULTILINE) == []


def test_each_rule_is_shown_by_a_phrase() -> None:
    shown = {rule for rule in RULES for text in STUMBLED_OVER if rule.search(text)}

    assert sorted(rule.pattern for rule in set(RULES) - shown) == []


VALE = shutil.which("vale")


def vale(*words: str | Path) -> dict[str, list[dict[str, object]]]:
    """Ask Vale, with the configuration of the repository, for its alerts by file."""
    asked = [str(VALE), "--config", str(ROOT / ".vale.ini"), "--output=JSON", *map(str, words)]
    answer = subprocess.run(
        asked, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert answer.returncode in (0, 1), answer.stderr
    alerts: dict[str, list[dict[str, object]]] = json.loads(answer.stdout)
    return alerts


@pytest.mark.skipif(VALE is None, reason="Vale is not installed; 'make vale' installs and runs it")
def test_vale_finds_what_the_rules_find(tmp_path: Path) -> None:
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text("\n\n".join(STUMBLED_OVER), encoding="utf-8")
    module.write_text('"""Lines are dealt\nout.\n"""\n', encoding="utf-8")

    alerts = vale(page, module)

    lines = sorted(int(str(alert["Line"])) for alert in alerts[str(page)])
    assert lines == list(range(1, 2 * len(STUMBLED_OVER), 2))
    assert len(alerts[str(module)]) == 1
