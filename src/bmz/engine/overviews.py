"""Read planes of an image and their labels in parts, and shrink them to the size of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import boxes
from bmz.base.errors import not_none
from bmz.engine.label_stack import LabelStack
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource
from bmz.process.object_columns import CLASS
from bmz.write.result import Overview

OVERVIEW_PX = 2048
"""Maximum length of the longer side of the picture, px."""


def overview(
    labels: LabelStack,
    image: ImageSource,
    longest: int = OVERVIEW_PX,
    at: Mapping[str, int] | None = None,
) -> Overview:
    """Return a plane, shrunk by an integer factor to fit a picture.

    Pixels that are merged are averaged; of labels, the first one is kept.

    Parameters
    ----------
    longest : maximum side of the picture, px
    at : position along t and z; None for the plane with most objects
    """
    at = labels.fullest_plane() if at is None else at
    plane = {axis: slice(i, i + 1) for axis, i in at.items()}
    sides = tuple(labels.shape[-2:])
    step = max(1, -(-max(sides) // longest))
    side = -(-max(max(part.block) for part in labels.parts) // step) * step
    height, width = (-(-n // step) for n in sides)
    numbers = np.zeros((height, width), np.int64)
    shown: Pixels | None = None
    for y, x in boxes(sides, (side, side)):
        place = tuple(slice(s.start // step, -(-s.stop // step)) for s in (y, x))
        inside = labels[(*plane.values(), y, x)]
        numbers[place] = inside.reshape(inside.shape[-2:])[::step, ::step]
        part = image.region({**plane, "y": y, "x": x}).part(dict.fromkeys(plane, 0))
        small = _means(part.array, step)
        if shown is None:
            pixels = np.zeros((*small.shape[:-2], height, width), small.dtype)
            um = {axis: length * step for axis, length in part.pixel_um.items()}
            shown = replace(part, array=pixels, pixel_um=um)
        shown.array[..., place[0], place[1]] = small
    counts = dict(zip(labels.axes, labels.shape, strict=True))
    places = {axis: (i, counts[axis]) for axis, i in at.items() if counts[axis] > 1}
    return Overview(not_none(shown), Pixels(numbers, ("y", "x")), at=places)


def _means(pixels: AnyArray, step: int) -> AnyArray:
    """Average blocks of `step` x `step` pixels along y and x; the last ones may be smaller."""
    if step == 1:
        return pixels
    sums, counts = pixels.astype(np.float64), np.ones(pixels.shape[-2:])
    with np.errstate(over="ignore", invalid="ignore"):  # as when the contrast is stretched
        for axis in (-2, -1):
            starts = np.arange(0, pixels.shape[axis], step)
            sums, counts = (np.add.reduceat(some, starts, axis) for some in (sums, counts))
        return (sums / counts).astype(np.float32)


def class_numbers(labels: LabelStack) -> AnyArray | None:
    """Return the class index of each label, by class name from 0; None without classes."""
    names: dict[int, str] = {}
    for number, part in enumerate(labels.parts):
        known = part.objects.columns_by(part.numbers, {CLASS}).get(CLASS)
        if known is None:
            return None
        whole = labels.in_whole(number, np.arange(1, part.count + 1))
        names |= dict(zip(whole.tolist(), known.tolist(), strict=True))
    places = {name: k for k, name in enumerate(sorted({*names.values()}))}
    kinds = np.zeros(labels.count + 1, np.intp)
    for number, name in names.items():
        kinds[number] = places[name]
    return kinds
