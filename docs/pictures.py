"""Make the pictures of the pages: ``python -m docs.pictures [NAME]``.

The image is the one that comes with bmz: nuclei of the 2018 Data Science Bowl, CC0. Captions are
written from what the code finds. The picture of `compare` is taken by a test of its page, those
of chains and prompts by benchmarks, and screens of a terminal by `docs.first_hour`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from click.shell_completion import BashComplete
from docs.panels import (
    YELLOW,
    Picture,
    boxes,
    coloured,
    enlarged,
    grey,
    histogram,
    ring,
    screen,
    side_by_side,
    write_small,
)
from scipy import ndimage

import bmz
from bmz.app.run import MODEL, demo_image
from bmz.base.arrays import AnyArray
from bmz.cli.main import cli
from bmz.write.outlines import traced_rings

DOCS = Path(__file__).parent

SIDE_PX = 256
"""Of most panels."""

CROP = slice(0, SIDE_PX), slice(0, SIDE_PX)


@cache
def _pixels() -> AnyArray:
    """Give the image that comes with bmz, (y, x)."""
    with bmz.load(MODEL) as model:
        return np.asarray(model.run(demo_image()).image).squeeze()


@cache
def _result(model: str = MODEL, **options: object) -> bmz.Result:
    settings = options.pop("settings", ())
    with bmz.load(model) as loaded:
        return loaded.run(_pixels(), **options, settings=dict(settings))  # type: ignore[arg-type,call-overload]


def _labels(result: bmz.Result) -> AnyArray:
    return np.asarray(result.labels)


def _outlines(result: bmz.Result) -> Picture:
    return result.overlay()[CROP]


def _count(labels: AnyArray) -> int:
    return len(np.unique(labels[labels > 0]))


def first_look() -> Picture:
    """Put the same part of the bundled image, its label mask and its overlay side by side."""
    result = _result()
    return side_by_side([grey(_pixels())[CROP], coloured(_labels(result))[CROP], _outlines(result)])


def biologist() -> Picture:
    """Show outlines that are right, and those of objects that are too small or too large."""
    found = [("right", _result()), ("--scale 0.25", _result(scale=0.25))]
    found.append(("--scale 4", _result(scale=4.0)))
    captions = [f"{words}: {_count(_labels(result)[CROP])} objects" for words, result in found]
    return side_by_side([_outlines(result) for _, result in found], captions)


def analyst() -> Picture:
    """Show what three models make of the same image."""
    names = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour")
    results = [_result(name) for name in names]
    captions = [f"{n}: {r.objects} in all" for n, r in zip(names, results, strict=True)]
    return side_by_side([_outlines(result) for result in results], captions)


def author() -> Picture:
    """Show an image, a map that the network gives, and the labels that the recipe makes of it."""
    panels = [grey(_pixels())[CROP], _probability(), coloured(_labels(_result()))[CROP]]
    return side_by_side(panels, ["input", "output: object_probability", "labels, by the recipe"])


def adopt() -> Picture:
    """Draw the way from a checkpoint to a package that runs."""
    package = "bioimageio.yaml\nweights\ntest tensors\nREADME.md"
    return boxes(
        [("your checkpoint", "of Cellpose,\nOmnipose, StarDist\nor InstanSeg"),
         ("a package", package), ("a mask", "label mask, table,\noverlay, record")],
        ["bmz adopt\nmy_model.pth", "bmz run my_model\ncells.tif"],
    )  # fmt: skip


def ci() -> Picture:
    """Show an image that a contract was made with, and two that break it."""
    dim = (_pixels() * 0.1).astype(np.uint8)
    blurred = ndimage.gaussian_filter(_pixels(), 6)
    images = {"as it was": _pixels(), "less light": dim, "out of focus": blurred}
    with bmz.load(MODEL) as model:
        sizes = [_diameter(model.run(pixels)) for pixels in images.values()]
    brightest = [int(np.percentile(pixels, 99)) for pixels in images.values()]
    said = [f"{b} bright, {d:.0f} px wide" for b, d in zip(brightest, sizes, strict=True)]
    darker = (grey(_pixels())[CROP] * 0.35).astype(np.uint8)
    return side_by_side(
        [grey(_pixels())[CROP], darker, grey(blurred)[CROP]],
        [f"{words}: {what}" for words, what in zip(images, said, strict=True)],
    )


def _diameter(result: bmz.Result) -> float:
    return float(np.sqrt(4 * result.table()["area_px"].median() / np.pi))


def cluster() -> Picture:
    """Show six images in frames of the colour of their worker."""
    overlay, side = _result().overlay(), 120
    frames = []
    for number in range(6):
        y, x = divmod(number, 3)
        part = overlay[y * side : (y + 1) * side, x * side : (x + 1) * side].copy()
        colour = np.array([(0, 121, 107), (249, 168, 37)][number % 2], np.uint8)
        part[:5] = part[-5:] = part[:, :5] = part[:, -5:] = colour
        frames.append(part)
    return side_by_side(frames, [f"worker {1 + number % 2}" for number in range(6)])


def describe() -> Picture:
    """Draw the sizes of objects that are measured to be proposed."""
    area = _result().table()["area_px"].to_numpy()
    words = ("diameter of the objects of the test input, px", "median {:.1f} px")
    return histogram(np.sqrt(4 * area / np.pi), words, (520, 220))


def fiji_and_qupath() -> Picture:
    """Show the pixels of a few objects, and the outlines that are written of them."""
    part, times = (slice(106, 156), slice(66, 116)), 7
    labels = _labels(_result())[part]
    pixels = enlarged(grey(_pixels()[part]), times)
    points, rings = traced_rings(np.ascontiguousarray(labels, np.int32))
    drawn, start = pixels, 0
    for _, count in rings:
        corners = points[start : start + count] * times
        drawn = ring(drawn, [(float(x), float(y)) for x, y in corners], YELLOW)
        start += count
    mask = enlarged(coloured(labels), times)
    return side_by_side(
        [mask, drawn], ["label mask, each pixel enlarged", "traced outlines (ROIs)"]
    )


def mcp() -> Picture:
    """Draw what an MCP client asks, and what comes back."""
    return boxes(
        [("your client", "an editor or a chat,\non your computer"),
         ("bmz mcp", "search, show, check,\nfit, run, score"),
         ("your folders", "images are read,\nmasks are written;\nnothing else")],
        ["tools, over\nstdin and stdout", "only what\n--folder names"],
    )  # fmt: skip


def omero() -> Picture:
    """Draw what the script for OMERO fetches, and what it saves."""
    return boxes(
        [("OMERO", "an image, its pixel\nsize and channels"),
         ("bmz", "checks it,\nruns the model"),
         ("OMERO", "a ROI for each object,\ntable and record\nas attachments")],
        ["planes, by the\nnumber of the image", "saved with\nthe image"],
    )  # fmt: skip


def nothing_fits() -> Picture:
    """Show dark objects on a bright ground, without and with --invert."""
    dark = 255 - _pixels()
    with bmz.load(MODEL) as model:
        plain, inverted = model.run(dark), model.run(dark, invert=True)
    found = [("as it is", plain), ("--invert", inverted)]
    captions = [f"{words}: {_count(_labels(result)[CROP])} objects" for words, result in found]
    panels = [grey(dark)[CROP], *(_outlines(result) for _, result in found)]
    return side_by_side(panels, ["dark objects", *captions])


def offline() -> Picture:
    """Draw the way of models to a computer without a network."""
    return boxes(
        [("with a network", "bmz fetch MODEL\nfills the cache"),
         ("models.zip", "on a stick;\nevery file has\nits sha256"),
         ("without a network", "BMZ_OFFLINE=1\nbmz run MODEL ...")],
        ["bmz cache export", "bmz cache import"],
    )  # fmt: skip


def python() -> Picture:
    """Show the overlay, and a plot of the table that Python gives."""
    result = _result()
    table = result.table()
    area, bright = table["area_px"].to_numpy(), table["intensity_mean"].to_numpy()
    plot = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    plot[SIDE_PX - 22, 22:] = plot[: SIDE_PX - 22, 22] = 60
    x = 30 + (area - area.min()) / np.ptp(area) * (SIDE_PX - 44)
    y = SIDE_PX - 32 - (bright - bright.min()) / np.ptp(bright) * (SIDE_PX - 44)
    for row, column in zip(y.astype(int), x.astype(int), strict=True):
        plot[row - 2 : row + 3, column - 2 : column + 3] = (0, 121, 107)
    return side_by_side(
        [_outlines(result), plot], ["result.overlay()", "area_px (right), intensity_mean (up)"]
    )


def questions() -> Picture:
    """Show objects that touch the border, counted and left out."""
    kept, dropped = _result(), _result(settings=(("remove_border", True),))
    corner = slice(0, SIDE_PX), slice(-SIDE_PX, None)
    found = [("all", kept), ("remove_border=true", dropped)]
    captions = [f"{words}: {result.objects} objects" for words, result in found]
    return side_by_side([result.overlay()[corner] for _, result in found], captions)


def run() -> Picture:
    """Show the image, and the outputs that are pictures."""
    result = _result()
    return side_by_side(
        [grey(_pixels())[CROP], coloured(_labels(result))[CROP], _outlines(result), _probability()],
        ["image", "NAME.labels.tif", "NAME.overlay.png", "--save raw: NAME.raw.tif"],
    )


def _probability() -> Picture:
    """Show the first map of the network, on the grid of the image."""
    raw = _result().raw
    plane = np.asarray(raw.isel(c=0)).squeeze()
    return enlarged(grey(plane[: SIDE_PX // 2, : SIDE_PX // 2]), 2)


def shell() -> Picture:
    """Show what the tab key offers."""
    lines: list[str] = []
    for words in ("bmz run starter/", "bmz che", "bmz run starter/nuclei --sav"):
        lines += [f"$ {words}<TAB>", "  ".join(_offers(words)), ""]
    return screen(lines[:-1])


def _offers(words: str) -> list[str]:
    *before, last = words.split()[1:]
    with mock.patch.dict(os.environ, {"BMZ_OFFLINE": "1", "BMZ_CACHE_DIR": os.devnull}):
        offers = BashComplete(cli, {}, "bmz", "_BMZ_COMPLETE").get_completions(before, last)
    return [offer.value for offer in offers]


def measure() -> Picture:
    """Show the objects with the numbers of their rows, and how large they are."""
    result = _result()
    area = result.table()["area_px"].to_numpy()
    plot = histogram(area.astype(float), ("area_px", "median {:.0f} px"), (340, SIDE_PX))
    return side_by_side(
        [result.overlay(numbers=True)[CROP], plot],
        ["the number of an object is its label", "one of the columns, over all objects"],
    )


def workflow_managers() -> Picture:
    """Draw a step of a workflow manager."""
    return boxes(
        [("images", "one job for each,\nside by side"),
         ("bmz run", "checks the image,\nthen runs the model"),
         ("results", "masks, tables,\nrecords")],
        ["Snakemake,\nNextflow, ...", "exit status 0,\nor the reason"],
    )  # fmt: skip


def numbers() -> Picture:
    """Draw a corner of the overlay, with the label on each object."""
    return _result().overlay(numbers=True)[: 3 * SIDE_PX // 2, : 2 * SIDE_PX]


def stacks_and_time() -> Picture:
    """Show three planes of a stack, whose objects have numbers of their own, and joined ones."""
    stack = np.stack([np.roll(_pixels(), 3 * z, axis=1) for z in range(3)])
    with bmz.load(MODEL) as model:
        apart = model.run(stack, axes="zyx")
        joined = model.run(stack, axes="zyx", link=0.25)
    panels, captions = [], []
    for words, result in (("apart", apart), ("--link 0.25", joined)):
        shown = coloured(_labels(result).squeeze())
        panels += [shown[z, 60:188, 60:188] for z in range(3)]
        captions += [f"{words}, z=0", "z=1", f"z=2: {result.objects}"]
    return side_by_side(panels, captions)


PICTURES: Mapping[str, Callable[[], Picture]] = {
    "first-look": first_look,
    "how-to/adopt": adopt,
    "how-to/analyst": analyst,
    "how-to/author": author,
    "how-to/biologist": biologist,
    "how-to/ci": ci,
    "how-to/cluster": cluster,
    "how-to/describe": describe,
    "how-to/fiji-and-qupath": fiji_and_qupath,
    "how-to/mcp": mcp,
    "how-to/measure": measure,
    "how-to/nothing-fits": nothing_fits,
    "how-to/numbers": numbers,
    "how-to/offline": offline,
    "how-to/omero": omero,
    "how-to/python": python,
    "how-to/questions": questions,
    "how-to/run": run,
    "how-to/shell": shell,
    "how-to/stacks-and-time": stacks_and_time,
    "how-to/workflow-managers": workflow_managers,
}
"""What is made here: place below ``docs``, and how."""


def main(names: list[str]) -> None:
    """Write the pictures of these names, or all."""
    for name in names or PICTURES:
        write_small(DOCS / f"{name}.png", PICTURES[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
