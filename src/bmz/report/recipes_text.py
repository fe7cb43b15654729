"""The label recipes as a page of the reference."""

from __future__ import annotations

from bmz.process.recipe import Parameter, Recipe
from bmz.process.recipes import RECIPES

INTRODUCTION = """# Label recipes

A recipe turns the output of a network into a label mask. `bmz show` tells which one a model gets
and by what evidence: a declared step that gives labels, `config.stardist`, the
[curated facts](facts.md) of the model, names of channels, tags.
When nothing tells, bmz asks for `--recipe`; it never guesses. `--set NAME=VALUE` changes a
parameter. `--recipe none` makes no labels.

This page is made from the code: `python -m bmz.report.recipes_text > docs/reference/recipes.md`.
"""


def recipes_page() -> str:
    """Give the page in Markdown."""
    return INTRODUCTION + "".join(_section(recipe) for recipe in RECIPES.values())


def _section(recipe: Recipe) -> str:
    lines = [
        f"\n## {recipe.name}\n",
        f"{recipe.what[0].upper()}{recipe.what[1:]}.\n",
        f"Source: {recipe.source}.",
    ]
    if recipe.parameters:
        lines += ["", "| parameter | default | range | meaning |", "|---|---|---|---|"]
        lines += [_row(parameter) for parameter in recipe.parameters]
    return "\n".join(lines) + "\n"


def _row(parameter: Parameter) -> str:
    low, high = parameter.low, parameter.high
    limits = (
        "any" if low is None else f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
    )
    if isinstance(parameter.default, bool):
        limits = "true, false"
    default = str(parameter.default).lower()
    return f"| `{parameter.name}` | {default} | {limits} | {parameter.what} |"


if __name__ == "__main__":
    print(recipes_page(), end="")  # noqa: T201  (the one place where a module of this room is a program)
