"""What the table of codes states is stated nowhere else: read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import bmz
from bmz.check.codes import CODES

SOURCES = Path(bmz.__file__).parent
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCES.rglob("*.py"))}
IMPORT = re.compile(r"^ *from bmz\.report\.\w+ import (\([^)]*\)|[^\n#]+)", re.MULTILINE)


def calls(name: str) -> Iterator[ast.Call]:
    """Yield every call of a function that is written like this."""
    for text in TEXTS.values():
        for node in ast.walk(ast.parse(text)) if f"{name}(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield node


def codes(node: ast.expr) -> Iterator[str]:
    """Yield the codes of a first argument, of which there may be one of two."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_no_rule_types_the_severity_of_its_finding() -> None:
    assert [ast.unparse(call) for call in calls("Finding")] == []


def test_each_rule_names_a_code_of_the_table_and_a_milder_case_that_it_has() -> None:
    rules = list(calls("Finding.of"))

    named = {code for call in rules for code in codes(call.args[0])}
    milder = {
        code
        for call in rules
        if any(keyword.arg == "milder" for keyword in call.keywords)
        for code in codes(call.args[0])
    }

    assert named <= set(CODES)
    assert milder == {code for code, known in CODES.items() if known.milder is not None}


def test_report_defines_no_value_that_other_rooms_make() -> None:
    taken = {
        name
        for path, text in TEXTS.items()
        if "report" not in path.relative_to(SOURCES).parts
        for names in IMPORT.findall(text)
        for name in re.findall(r"\w+", names)
    }

    assert "verdict_words" in taken
    assert {name for name in taken if name[0].isupper() and not name.isupper()} <= {"Line"}
