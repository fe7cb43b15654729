"""Measure what prompts find and cost on a network whose masks are known, and draw a picture.

``PYTHONPATH=. python benchmarks/prompts.py [--write PAGE]``. The network is that of the tests: it
has the manifest of micro-sam's packages, and recognises the objects of a drawn picture by their
grey values, so that every error is due to bmz. ``--write`` writes the sentences between their marks
in PAGE, and the picture next to PAGE.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pages import write_between
from PIL import Image
from scipy.ndimage import distance_transform_edt
from skimage.measure import regionprops
from skimage.segmentation import find_boundaries
from tests.process.ideal_maps import cells
from tests.promptable import picture_of, write_promptable

from bmz.base.arrays import AnyArray, LabelArray
from bmz.engine.image_header import given_image
from bmz.engine.prompting import GRID, given_prompts
from bmz.engine.request import RunRequest
from bmz.engine.run_image import run_given_image
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.predict.backend import Backend, Device
from bmz.process.matching import match_labels

MARKS = ("<!-- benchmarks/prompts.py -->\n", "<!-- end of prompts -->\n")
SIDE_PX, ROWS = 1024, 15
"""Side of the picture, and objects along each side; more would have no unique grey value."""

PROMPTS, TILE_PX = 500, 400
SHOWN_PX, SPACING_PX, GAP_PX = 400, 32, 8


@dataclass
class TimedBackend:
    """A network whose own time can be subtracted from that of a run.

    Parameters
    ----------
    own : the network
    took_s : CPU time so far in s
    encoded : number of runs with an image but without its embeddings
    """

    own: Backend
    took_s: float = 0.0
    encoded: int = 0

    @property
    def name(self) -> str:
        """Return the name of the framework."""
        return self.own.name

    @property
    def device(self) -> Device:
        """Return the device that it runs on."""
        return self.own.device

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network, and count its time."""
        self.encoded += not inputs[-1].size
        start = time.process_time()
        outputs = self.own.run(inputs)
        self.took_s += time.process_time() - start
        return outputs

    def close(self) -> None:
        """Close the network."""
        self.own.close()


@dataclass(frozen=True)
class Found:
    """The result of one run.

    Parameters
    ----------
    labels : (y, x)
    besides_s : CPU time in s without that of the network
    tiles : number of tiles
    encoded : number of images that the network has encoded
    """

    labels: LabelArray
    besides_s: float
    tiles: int
    encoded: int


def run(setup: RunSetup, picture: AnyArray, prompts: object) -> Found:
    """Run the network on a picture (y, x, 3)."""
    image = given_image(picture, "yxc")
    asked = given_prompts(prompts, image.info, {})  # type: ignore[arg-type]  # a dict or an array
    backend = TimedBackend(opened(setup))
    start = time.process_time()
    result = run_given_image(setup, replace(image, prompts=asked), lambda: backend, print_nothing)
    took_s = time.process_time() - start
    backend.close()
    labels = np.asarray(result.whole_labels().array).reshape(picture.shape[:2])
    return Found(labels, took_s - backend.took_s, result.plan.tiling.count, backend.encoded)


def print_nothing(_event: object) -> None:
    """Ignore events."""


def nuclei_of(labels: LabelArray) -> LabelArray:
    """Return a disc for each object around its innermost pixel, with half the possible width."""
    nuclei = np.zeros_like(labels)
    for region in regionprops(labels):
        depth = distance_transform_edt(np.pad(region.image, 1))[1:-1, 1:-1]
        deepest = np.reshape(np.unravel_index(depth.argmax(), depth.shape), (2, 1, 1))
        disc = ((np.indices(depth.shape) - deepest) ** 2).sum(axis=0) <= (depth.max() / 2) ** 2
        nuclei[region.slice][disc & region.image] = region.label
    return nuclei


def points_in(labels: LabelArray, count: int) -> dict[str, list[int]]:
    """Return points in objects, several per object if there are fewer objects than points."""
    places = np.argwhere(labels)
    some = np.random.default_rng(0).permutation(places)[:count]
    return {"y": some[:, 0].tolist(), "x": some[:, 1].tolist()}


def sentences(setup: RunSetup, truth: LabelArray) -> tuple[str, Found, Found]:
    """Describe the results and their cost; return the masks of the grid and those of nuclei."""
    picture, nuclei = picture_of(truth), nuclei_of(truth)
    grid = run(setup, picture, GRID)
    asked = run(setup, picture, nuclei)
    many = run(setup, picture, points_in(truth, PROMPTS))
    count = int(truth.max())
    matched = match_labels(grid.labels, truth, 0.5)
    single = sum(
        len(np.unique(nuclei[(asked.labels == n) & (nuclei > 0)])) == 1
        for n in range(1, int(asked.labels.max()) + 1)
    )
    text = (
        f"On a drawn picture of {SIDE_PX} x {SIDE_PX} px with {count} objects, and a network that "
        f"knows their masks, a grid of points finds\n{matched.tp} of them "
        f"({matched.tp / count:.1%}), and {matched.fp} false ones. Asked for the objects of "
        f"{nuclei.max()} nuclei, it gives {asked.labels.max()} cells, of which {single}\n"
        f"({single / nuclei.max():.1%}) hold one nucleus. The network encoded {grid.encoded} "
        f"images for {grid.tiles} tiles. {PROMPTS} points take {many.besides_s:.1f} s of "
        "processor\nbesides the network, from the image to its label mask.\n"
    )
    return text, grid, asked


def drawn(truth: LabelArray, labels: LabelArray, marks: AnyArray) -> AnyArray:
    """Draw objects in grey, outlines of labels in yellow and marks in blue."""
    grey = np.where(truth > 0, 90 + truth * 37 % 90, 30).astype(np.uint8)
    colours = np.repeat(grey[..., None], 3, axis=2)
    colours[marks] = (80, 160, 255)
    colours[find_boundaries(labels, mode="inner")] = (255, 220, 0)
    return colours[:SHOWN_PX, :SHOWN_PX]


def picture_beside(truth: LabelArray, grid: Found, asked: Found, path: Path) -> None:
    """Draw what a grid of prompts finds and what nuclei as prompts find side by side."""
    y, x = np.indices(truth.shape)
    half = SPACING_PX // 2
    points = (abs(y % SPACING_PX - half) < 2) & (abs(x % SPACING_PX - half) < 2)
    sides = [drawn(truth, grid.labels, points), drawn(truth, asked.labels, nuclei_of(truth) > 0)]
    gap = np.full((SHOWN_PX, GAP_PX, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([sides[0], gap, sides[1]], axis=1)).quantize(64).save(
        path, optimize=True
    )


def main() -> None:
    """Measure, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    words = parser.parse_args()
    truth = cells(0, SIDE_PX, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        package = write_promptable(Path(folder) / "net")
        request = RunRequest(str(package), (), Path(folder), tile=TILE_PX, trust="unconfined")
        text, grid, asked = sentences(prepare(request), truth)
    print(text, end="")
    if words.write is not None:
        write_between(words.write, MARKS, text)
        picture_beside(truth, grid, asked, words.write.with_suffix(".png"))


if __name__ == "__main__":
    main()
