"""Compare label recipes with the tools that they follow, on maps made from real masks.

``python benchmarks/parity.py [--recipe NAME ...] [--times N] [--quick] [--held-out]
[--shared FOLDER] [--environment FOLDER]``

Installs the reference tools that are on PyPI into a separate environment, and makes the maps that a
network of each family is trained to output for the masks of ``FOLDER/data``. The maps are blurred,
noise of four strengths is added, and bmz and the reference label them. With ``--times``, they do
so alternately N times, and the median time counts. Rows are printed and, unless with ``--quick``,
replace all rows of their recipes in ``docs/reference/parity.md``. ``--held-out`` uses other masks,
of planes only, and leaves the page unchanged. The exit status is 1 if the F1 of bmz with the truth
is lower than that of the reference by more than 0.01 in any row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the ideal maps of the tests

import numpy as np
from references.cases import CASES, Case
from references.environment import Environment
from references.masks import STRENGTHS, Strength, degraded, held_out, planes, stacks
from references.page import Row, verdict, write_page
from references.score import Agreement

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "parity.md"


def compared(
    case: Case, masks: Sequence[LabelArray], tools: Environment, times: int
) -> Iterator[Row]:
    """Label the maps of all masks with bmz and with the reference, in one row per strength."""
    truths = [case.objects(mask) for mask in masks] * case.repeats
    ideal = case.maps(masks, tools) * case.repeats
    every = [
        case.limited(degraded(maps, strength, seed, case.least_noise))
        for strength in STRENGTHS
        for seed, maps in enumerate(ideal)
    ]
    rounds = [
        (tools.call(case.work, every, case.options), labelled(case, every)) for _ in range(times)
    ]
    (theirs, _), (ours, _) = rounds[0]
    their_seconds, seconds = (
        np.median([done[side][1] for done in rounds], axis=0) for side in (0, 1)
    )
    for at, strength in enumerate(STRENGTHS):
        part = slice(at * len(truths), (at + 1) * len(truths))
        took = float(seconds[part].sum()), float(their_seconds[part].sum())
        yield scored(case, strength, (truths, ours[part], theirs[part]), took)


def labelled(case: Case, maps: Sequence[FloatArray]) -> tuple[list[LabelArray], list[float]]:
    """Label with bmz, and return the processor seconds of each; what is compiled, is so before."""
    recipe = RECIPES[case.recipe]
    parameters = recipe.parameters_from(case.parameters, {})
    recipe.apply(maps[0], case.grid, parameters)
    found, seconds = [], []
    for one in maps:
        start = time.process_time()
        found.append(recipe.apply(one, case.grid, parameters).labels)
        seconds.append(time.process_time() - start)
    return found, seconds


def scored(
    case: Case,
    strength: Strength,
    masks: tuple[Sequence[LabelArray], Sequence[LabelArray], Sequence[LabelArray]],
    took: tuple[float, float],
) -> Row:
    """Compare the true masks, those of bmz and those of the reference."""
    between, own, theirs = Agreement(), Agreement(), Agreement()
    for truth, *found in zip(*masks, strict=True):
        # a coarse grid may reach beyond the end
        ours, reference = (one[tuple(map(slice, truth.shape))] for one in found)
        between.add(ours, reference)
        own.add(ours, truth)
        theirs.add(reference, truth)
    return Row(case, strength, between, own, theirs, *took)


def main() -> int:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    names = sorted({case.recipe for case in CASES})
    parser.add_argument("--recipe", choices=names, nargs="+", default=names)
    parser.add_argument("--times", type=int, default=1, help="of which the median time counts")
    parser.add_argument("--quick", action="store_true", help="two planes and one stack only")
    parser.add_argument("--held-out", action="store_true", help="masks that the page has not")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "parity")
    words = parser.parse_args()
    tools = Environment(words.environment.resolve()).prepared()
    if words.held_out:
        flat, deep = held_out(words.shared), []
    else:
        flat, deep = (read(words.shared, quick=words.quick) for read in (planes, stacks))
    rows = []
    for case in CASES:
        masks = deep if case.in_stacks else flat
        if case.recipe in words.recipe and masks:
            for row in compared(case, masks, tools, words.times):
                print(row.line, flush=True)
                rows.append(row)
    if not words.quick and not words.held_out:
        write_page(PAGE, rows)
    bad = [row.words for row in rows if row.fails]
    print(verdict([row.line for row in rows]), *bad, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
