"""Count the cells with exactly one nucleus, without a chain and with it, and draw a picture.

``python benchmarks/chained.py SHARED [--write PAGE]``; SHARED contains the images and packages of
the tests. ``starter/nuclei`` and a Cellpose network are run separately and as a chain on the
teaching image of NEUBIAS (CC-BY 4.0). ``--write`` writes the sentence with the counts between its
marks in PAGE, and the picture next to PAGE.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from pages import write_between
from PIL import Image

from bmz.app.chain import Chain, run_chain
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.results.images import ChainedImage

MARKS = ("<!-- benchmarks/chained.py -->\n", "<!-- end of chained -->\n")
IMAGE = "data/neubias/xyc_8bit__membranes_nuclei.tif"
CELLS = "models/cellpose-cyto"
GAP_PX, COLOURS = 8, 128


def chained(shared: Path, folder: Path, **relation: str) -> ChainedImage:
    """Run nuclei, then cells."""
    cells = {"name": "cells", "model": str(shared / CELLS), "scale": 0.5, **relation}
    nuclei = {"name": "nuclei", "model": "starter/nuclei", "channels": [1]}
    request = RunRequest("", (shared / IMAGE,), folder)
    (done,) = run_chain(Chain.of({"step": [nuclei, cells]}), request).done
    return done


def masks(done: ChainedImage) -> tuple[AnyArray, AnyArray]:
    """Read the masks of nuclei and of cells."""
    nuclei, cells = (tifffile.imread(step.files["labels"]) for step in done.steps.values())
    return nuclei, cells


def nuclei_in(nuclei: AnyArray, cells: AnyArray) -> list[int]:
    """Count the nuclei that each cell overlaps."""
    inside = (np.unique(nuclei[cells == n]) for n in np.unique(cells[cells > 0]))
    return [int(np.count_nonzero(numbers)) for numbers in inside]


def sentence(plain: ChainedImage, pair: ChainedImage) -> str:
    """Describe what the chain changes."""
    before, after = nuclei_in(*masks(plain)), nuclei_in(*masks(pair))
    nuclei, cells = masks(pair)
    numbers = np.unique(nuclei[nuclei > 0])
    whole = sum(bool((cells[nuclei == n] == n).all()) for n in numbers)
    return (
        f"On the teaching image of membranes and nuclei, `starter/nuclei` finds {len(numbers)} "
        f"nuclei, and a Cellpose network\n{len(before)} cells, of which {sum(map(bool, before))} "
        f"overlap nuclei and {sum(n > 1 for n in before)} several of them. As a pair there are "
        f"{len(after)} cells, of which\n{sum(map(bool, after))} overlap nuclei and "
        f"{sum(n > 1 for n in after)} several; {whole} nuclei lie as a whole in the cell of their "
        "number.\n"
    )


def picture(pair: ChainedImage, path: Path) -> None:
    """Draw the outlines of nuclei and of cells side by side."""
    sides = [Image.open(step.files["overlay"]).convert("RGB") for step in pair.steps.values()]
    width, height = sides[0].size
    whole = Image.new("RGB", (2 * width + GAP_PX, height), "white")
    for number, side in enumerate(sides):
        whole.paste(side, (number * (width + GAP_PX), 0))
    whole.quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Run both, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = chained(words.shared, Path(folder) / "plain")
        pair = chained(words.shared, Path(folder) / "pair", pair="from:nuclei")
        text = sentence(plain, pair)
        print(text, end="")
        if words.write is not None:
            write_between(words.write, MARKS, text)
            picture(pair, words.write.with_suffix(".png"))


if __name__ == "__main__":
    main()
