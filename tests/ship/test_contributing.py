"""The recipes of CONTRIBUTING are followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("ruff")  # its recipes format and lint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (Add .+?)$\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE))
CHANGE = re.compile(
    r"^(?:New, `(?P<new>[^`]+)`|In `(?P<old>[^`]+)`, (?:at the end"
    r"|(?P<where>below|in place of)\s`(?P<line>[^`]+)`(?:,[^:]+)?)):\n\n"
    r"```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def follow(recipe: str, copy: Path) -> None:
    """Make every change that a recipe names."""
    for change in CHANGE.finditer(recipe):
        code = change["code"]
        path = copy / (change["new"] or change["old"])
        if change["new"]:
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        if change["line"] is None:
            path.write_text(f"{text.rstrip()}\n\n\n{code.lstrip()}", encoding="utf-8")
            continue
        line = f"{change['line']}\n"
        assert text.count(line) == 1, f"{change['line']!r} is not a line of its own in {path.name}"
        kept = line if change["where"] == "below" else ""
        path.write_text(text.replace(line, kept + code), encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works_as_it_stands(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    copy = tmp_path / "bmz"
    shutil.copytree(ROOT / "src", copy / "src")  # with what Python and Numba compiled
    for part in ("tests", "docs"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / file, copy / file)
    shutil.copytree(ROOT / "model_cards", copy / "model_cards")
    follow(recipe, copy)
    (asked,) = re.findall(r"^Then run (.+?)\.$", recipe, re.MULTILINE)
    tests = re.findall(r"`(tests/[^`]+)`", asked)
    families = re.findall(r'Family\("(\w+)"', recipe)
    if families:  # the cases of other families are run here, and not in the copy too
        tests += ["-k", " or ".join(("every_recipe_that", *families))]
    environment = {
        "BMZ_TEST_DATA": str(ROOT.parent / "shared"),
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(copy / "src"), str(copy / "tests"))),
    }
    for command in (
        ["-m", "bmz.report.reference", "docs/reference"],
        ["-m", "ruff", "format", "src", "tests"],
        ["-m", "ruff", "check", "--fix", "src", "tests"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=copy, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_there_are_six_recipes_and_each_says_what_to_run() -> None:
    assert len(RECIPES) == 6
    assert all(len(CHANGE.findall(recipe)) >= 3 for recipe in RECIPES.values())
    blocks = PAGE.count("```python")
    assert blocks == sum(len(CHANGE.findall(recipe)) for recipe in RECIPES.values())
