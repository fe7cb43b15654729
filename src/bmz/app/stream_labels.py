"""Labels of a large plane on the disk: numbered, measured and shown part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bmz.base.arrays import AnyArray
from bmz.image.grid import with_lengths
from bmz.image.region import OpenImage
from bmz.process.blocks import Found
from bmz.process.measure import measure_objects

BLOCK_PX = 2048
OVERLAP_PX = 128
"""Of blocks of labels; grows where objects are larger."""

OVERVIEW_PX = 2048
"""Longer side of the picture."""


@dataclass(frozen=True)
class Labels:
    """Labels on the disk, and what is known of them.

    Parameters
    ----------
    stored : (y, x) numbers of the objects as they were found
    numbers : the label of each of them, in raster order; 0 for one that is left out
    found : the objects
    size : height and width of the image, px
    block, overlap : of the blocks in which labels were made, px along y and x; an object lies
        within the block in which it begins and the widest overlap
    """

    stored: Any
    numbers: AnyArray
    found: Found
    size: tuple[int, int]
    block: tuple[int, int]
    overlap: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        return self.size

    @property
    def count(self) -> int:
        """How many objects are left."""
        return int(self.numbers.max(initial=0))

    def __getitem__(self, box: tuple[Any, ...]) -> AnyArray:
        """Give the labels of a part."""
        sides = tuple(side for side in box if side is not Ellipsis)
        part: AnyArray = self.numbers[np.asarray(self.stored[sides])]
        return part


def without_border(stored: Any, numbers: AnyArray, size: tuple[int, int]) -> AnyArray:  # noqa: ANN401  (an array of zarr)
    """Take the objects that touch the edge of the image out of the numbering."""
    height, width = size
    edges = (
        np.s_[0:1, 0:width],
        np.s_[height - 1 : height, 0:width],
        np.s_[0:height, 0:1],
        np.s_[0:height, width - 1 : width],
    )
    touching = np.unique(np.concatenate([np.asarray(stored[edge]).ravel() for edge in edges]))
    kept = numbers.copy()
    kept[touching] = 0
    return _closed_up(kept)


def without_hidden(stored: Any, numbers: AnyArray, size: tuple[int, int]) -> AnyArray:  # noqa: ANN401  (as above)
    """Take the objects that lie beyond the image, where a coarse map ends, out of the numbering."""
    height, width = size
    there = np.zeros(len(numbers), np.bool_)
    for y in range(0, height, BLOCK_PX):
        rows = np.asarray(stored[slice(y, min(y + BLOCK_PX, height)), slice(0, width)])
        there[np.unique(rows)] = True
    return _closed_up(np.where(there, numbers, 0))


def _closed_up(kept: AnyArray) -> AnyArray:
    # the same order without gaps
    ranks = np.zeros(int(kept.max(initial=0)) + 1, np.int64)
    left = np.sort(kept[kept > 0])
    ranks[left] = np.arange(1, len(left) + 1)
    fewer: AnyArray = ranks[kept]
    return fewer


def overview(labels: Labels, image: OpenImage) -> tuple[xr.DataArray, xr.DataArray]:
    """Give every n-th pixel of the image and the labels, so that they fit a picture."""
    step = max(1, -(-max(labels.shape) // OVERVIEW_PX))
    height, width = labels.shape
    rows = [slice(y, min(y + step, height)) for y in range(0, height, step)]
    strips, numbers = [], []
    for row in rows:
        first = slice(row.start, row.start + 1)
        strips.append(image.region({"y": first}).isel(x=slice(None, None, step)))
        numbers.append(labels[first, slice(0, width)][:, ::step])
    shown = xr.concat(strips, "y", coords="minimal", compat="override", join="override")
    shown.attrs = dict(strips[0].attrs)
    return shown, xr.DataArray(np.concatenate(numbers), dims=("y", "x"))


def measured_in_blocks(labels: Labels, image: OpenImage) -> dict[str, AnyArray]:
    """Measure every object in the block in which it begins.

    Returns
    -------
    dict of (n,) arrays
        as `bmz.process.measure.measure_objects` gives it for the whole, by label
    """
    tables = []
    height, width = labels.shape
    scores = labels.found.scores_by(labels.numbers)
    first = labels.found.first_by(labels.numbers)
    columns = int(labels.stored.shape[1])
    um = {axis: length for axis, length in image.info.pixel_um.items() if axis in "yx"}
    (high, wide), (over_y, over_x) = labels.block, labels.overlap
    for y in range(0, height, high):
        for x in range(0, width, wide):
            inside = (first // columns >= y) & (first // columns < y + high)
            inside &= (first % columns >= x) & (first % columns < x + wide)
            if not inside.any():
                continue
            rows = slice(max(y - over_y, 0), min(y + high + over_y, height))
            across = slice(max(x - over_x, 0), min(x + wide + over_x, width))
            part = labels[rows, across]
            mine = np.append(False, inside)
            owned = np.where(mine[part], part, 0)
            shown = image.region({"y": rows, "x": across})
            named = with_lengths(xr.DataArray(owned, dims=("y", "x")), um)
            table = measure_objects(named, shown, scores)
            tables.append(_moved(table, (rows, across), labels.shape, um))
    return _joined(tables)


def _moved(
    table: dict[str, AnyArray],
    box: tuple[slice, slice],
    shape: tuple[int, int],
    um: Mapping[str, float],
) -> dict[str, AnyArray]:
    """Bring places within a part to those within the image."""
    moved = dict(table)
    for axis, start in zip("yx", (side.start for side in box), strict=True):
        moved[f"centroid_{axis}_px"] = table[f"centroid_{axis}_px"] + start
        if axis in um:
            moved[f"centroid_{axis}_um"] = moved[f"centroid_{axis}_px"] * um[axis]
        for end in ("min", "max"):
            moved[f"bbox_{axis}_{end}_px"] = table[f"bbox_{axis}_{end}_px"] + start
    moved["touches_border"] = np.logical_or.reduce(
        [moved[f"bbox_{axis}_min_px"] == 0 for axis in "yx"]
        + [moved[f"bbox_{a}_max_px"] == n for a, n in zip("yx", shape, strict=True)]
    )
    return moved


def _joined(tables: list[dict[str, AnyArray]]) -> dict[str, AnyArray]:
    if not tables:
        return {"label": np.zeros(0, np.int64)}
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(whole["label"], kind="stable")
    return {name: column[order] for name, column in whole.items()}
