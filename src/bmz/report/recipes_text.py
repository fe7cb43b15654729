"""The label recipes as a page of the reference."""

from __future__ import annotations

import sys

from bmz.process.recipe import FINISH, Parameter, Recipe
from bmz.process.recipes import RECIPES

INTRODUCTION = """# Label recipes

A recipe turns the output of a network into a label mask. `bmz show` tells which one a model gets
and by what evidence, the first that is there: a declared step that gives labels; a block of
`config` (`config.bmz.recipe` with `name` and `parameters`, the thresholds in `config.stardist`, the
offsets in `config.mws`); the [curated facts](facts.md) of the model; names of channels; tags.
When nothing tells, bmz asks for `--recipe`; it never guesses. `--set NAME=VALUE` changes a
parameter. `--recipe none` makes no labels.

Every recipe is a pure function of `bmz.process`. Labels are 1 to n without gaps, in the order in
which a reader of the image meets the objects; a mask has the smallest unsigned dtype that holds
them. Tests compare each recipe with its reference implementation or its published steps, and
demand that ideal maps give back the objects they show, and that objects turn with the image.

This page is made from the code: `python -m bmz.report.recipes_text > docs/reference/recipes.md`.
"""


_RESCALED = {
    "maps": "the maps are brought to the image, and labels are made there",
    "labels": "labels are made before, and then brought to the image",
}

_HEAD = ("| parameter | default | range | meaning |", "|---|---|---|---|")


def recipes_page() -> str:
    """Give the page in Markdown."""
    return INTRODUCTION + _finish() + "".join(_section(recipe) for recipe in RECIPES.values())


def _finish() -> str:
    lines = ["", "## What every recipe does last", "", *_HEAD, *map(_row, FINISH)]
    lines += [
        "",
        "This happens on the grid of the image, after `--scale` is undone: smooth, fill, drop by",
        "size and place, number anew. A recipe with a parameter of one of these names means its",
        "own, such as `min_size` of `flows`, a step of the reference implementation.",
        "",
        "A length or an area that is meant for the network's grid, such as a smoothing, grows with",
        "the image where maps are brought to it, unless `--set` gives it: then it counts pixels of",
        "the image. Sizes of objects are pixels of the image always.",
    ]
    return "\n".join(lines) + "\n"


def _section(recipe: Recipe) -> str:
    lines = [
        f"\n## {recipe.name}\n",
        f"{recipe.what[0].upper()}{recipe.what[1:]}.\n",
        f"Source: {recipe.source}.",
        "",
        f"Where the image was resized, {_RESCALED[recipe.rescale]}: {recipe.rescale_why}.",
        "",
        f"Border of the image: {recipe.tiles}. Source: {recipe.tiles.source}.",
    ]
    if (own := recipe.own_tiles) is not None:
        lines += ["", f"Of {own.family}'s: {own.tiles}. Source: {own.tiles.source}."]
    if recipe.parameters:
        lines += ["", *_HEAD]
        lines += [_row(parameter) for parameter in recipe.parameters]
    return "\n".join(lines) + "\n"


def _row(parameter: Parameter) -> str:
    limits = parameter.limits
    if isinstance(parameter.default, bool):
        limits = "true, false"
    if parameter.choices:
        limits = ", ".join(parameter.choices)
    default = str(parameter.default)
    if isinstance(parameter.default, bool):
        default = default.lower()
    return f"| `{parameter.name}` | {default or 'empty'} | {limits} | {parameter.what} |"


if __name__ == "__main__":
    sys.stdout.write(recipes_page())
