"""Write the page that says how each segmenting model of the zoo gives a label mask.

``python -m tests.conformance.masks SHARED --page docs/reference/zoo-masks.md``; SHARED holds the
manifests. Nothing is run: whether the networks run, the page of conformance says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.engine.load import load_model
from bmz.plan.recipe_choice import choose_recipe
from bmz.spec.model import ModelSpec

FOREIGN: Mapping[str, str] = {
    "micro-sam": "segment-anything or mobile_sam",
    "cellpose-labels": "cellpose",
    "empanada-labels": "empanada",
}
"""Family -> the package that its code imports. Sources: the packages' environments, micro-sam's
``predictor_adaptor.py``."""

BY_HAND: Mapping[str, str] = {
    "shallow2deep": "another program's prediction in place of the image; `--recipe boundary`",
    "hpa-dpnunet": "`--recipe contour` with `--set`, and for cells a chain: see "
    "[how to chain models](../how-to/chains.md#one-nucleus-per-cell)",
    "membrane": "someone who knows which of its outputs is the boundary: `--set output=ID`",
    "detectron2": "a valid description: it names an axis twice",
}
"""Family -> what its models without a recipe need."""


@dataclass(frozen=True)
class MaskWay:
    """How a model gives a label mask.

    Parameters
    ----------
    recipe : chosen by evidence; the code of the refusal where there is none
    needs : beside the image, and leave for its code to run
    """

    alias: str
    recipe: str
    needs: str

    @property
    def by_evidence(self) -> bool:
        """Whether nobody has to say how."""
        return "." not in self.recipe


def ways(shared: Path) -> list[MaskWay]:
    """Look at every segmenting model of the snapshot."""
    known = json.loads((shared / "zoo" / "seg_models.json").read_text(encoding="utf-8"))
    families = {str(entry["alias"]): str(entry["family"]) for entry in known}
    return [_way(shared, alias, families[alias]) for alias in sorted(families)]


def _way(shared: Path, alias: str, family: str) -> MaskWay:
    try:
        model = load_model(str(shared / "zoo" / "models" / alias))
        recipe = choose_recipe(model).name
    except BmzError as why:
        return MaskWay(alias, str(why.code), BY_HAND[family])
    return MaskWay(alias, recipe, "; ".join(_needs(model, family)))


def _needs(model: ModelSpec, family: str) -> list[str]:
    prompts = model.prompts
    needs = []
    if prompts is not None and prompts.asks:
        needs.append("prompts: a grid of points, or `--prompts`")
    if model.has_decoder:
        needs[-1:] = [f"{needs[-1]}; none for its automatic decoder: `--prompts none`"]
    if len(model.required_inputs) > 1:
        needs.append("several images: `--input`")
    libraries = {w.architecture.library for w in model.weights if w.architecture is not None}
    packages = {library.partition(".")[0] for library in libraries if library}
    packages |= {FOREIGN[family]} if family in FOREIGN else set()
    return needs + [f"package {name}" for name in sorted(packages)]


def page(found: Sequence[MaskWay]) -> str:
    """Give the page of the documentation."""
    by_evidence = [way for way in found if way.by_evidence]
    lines = [
        "# A label mask from every segmenting model",
        "",
        f"Of the {len(found)} segmenting models of the zoo {len(by_evidence)} give a label mask by",
        "evidence: `bmz run MODEL IMAGE -o DIR` needs no further word. For each of the others the",
        "table has the code with which it is refused, and what is needed instead. Whether the",
        "networks run here, [conformance](conformance.md) says; what a recipe does,",
        "[label recipes](recipes.md).",
        "",
        "Made by `python -m tests.conformance.masks ../shared --page docs/reference/zoo-masks.md`.",
        "",
        "| model | label recipe | needs |",
        "|---|---|---|",
    ]
    lines += [f"| {way.alias} | {way.recipe} | {way.needs or '-'} |" for way in found]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str]) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--page", type=Path, required=True)
    told = parser.parse_args(words)
    told.page.write_text(page(ways(told.shared)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
