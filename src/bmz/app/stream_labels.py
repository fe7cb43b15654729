"""Labels of a large plane on the disk: numbered, measured and shown part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bmz.base.arrays import AnyArray
from bmz.base.boxes import Box, boxes
from bmz.image.grid import with_lengths
from bmz.image.region import OpenImage
from bmz.process.blocks import Found
from bmz.process.measure import Table, measure_objects

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
    for box in boxes((height, width), (BLOCK_PX, BLOCK_PX)):
        there[np.unique(np.asarray(stored[box]))] = True
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
    side = -(-BLOCK_PX // step) * step
    sparse = {"y": slice(None, None, step), "x": slice(None, None, step)}
    height, width = (-(-n // step) for n in labels.shape)
    numbers = np.zeros((height, width), np.int64)
    shown: xr.DataArray | None = None
    for y, x in boxes(labels.shape, (side, side)):
        place = tuple(slice(s.start // step, -(-s.stop // step)) for s in (y, x))
        numbers[place] = labels[y, x][::step, ::step]
        part = image.region({"y": y, "x": x}).isel(sparse)
        if shown is None:
            sizes = {**part.sizes, "y": height, "x": width}
            empty = np.zeros([sizes[axis] for axis in part.dims], part.dtype)
            kept = {k: v for k, v in part.coords.items() if not {"y", "x"} & set(v.dims)}
            shown = xr.DataArray(empty, coords=kept, dims=part.dims, attrs=part.attrs)
        shown[dict(zip("yx", place, strict=True))] = part.drop_vars(["y", "x"], errors="ignore")
    assert shown is not None  # noqa: S101  (an image has pixels; this tells the type checker)
    return shown, xr.DataArray(numbers, dims=("y", "x"))


def measured_in_blocks(labels: Labels, image: OpenImage) -> Iterator[Table]:
    """Measure every object in the block in which it begins.

    Yields
    ------
    dict of (n,) arrays
        as `bmz.process.measure.measure_objects` gives it for the whole, by label: of all blocks
        that lie side by side, since labels are numbered from the top
    """
    high, _ = labels.block
    for top in range(0, labels.shape[0], high):
        rows = slice(top, min(top + high, labels.shape[0]))
        tables = list(_measured_beside(labels, image, rows))
        whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        order = np.argsort(whole["label"], kind="stable")
        yield {name: column[order] for name, column in whole.items()}


def _measured_beside(labels: Labels, image: OpenImage, rows: slice) -> Iterator[Table]:
    """Measure the objects that begin in some rows, block by block."""
    scores = labels.found.scores_by(labels.numbers)
    begin_y, begin_x = divmod(labels.found.first_by(labels.numbers), int(labels.stored.shape[1]))
    um = {axis: length for axis, length in image.info.pixel_um.items() if axis in "yx"}
    beside = (begin_y >= rows.start) & (begin_y < rows.stop)
    for start in range(0, labels.shape[1], labels.block[1]):
        core = (rows, slice(start, min(start + labels.block[1], labels.shape[1])))
        inside = beside & (begin_x >= core[1].start) & (begin_x < core[1].stop)
        if start > 0 and not inside.any():
            continue  # the first one gives the headings even so
        seen = _widened(core, labels.overlap, labels.shape)
        part = labels[seen]
        owned = np.where(np.append(False, inside)[part], part, 0)
        shown = image.region(dict(zip("yx", seen, strict=True)))
        named = with_lengths(xr.DataArray(owned, dims=("y", "x")), um)
        yield _moved(measure_objects(named, shown, scores), seen, labels.shape, um)


def _widened(core: Box, overlap: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
    y, x = (
        slice(max(side.start - more, 0), min(side.stop + more, n))
        for side, more, n in zip(core, overlap, shape, strict=True)
    )
    return y, x


def _moved(
    table: Table, box: tuple[slice, slice], shape: tuple[int, int], um: Mapping[str, float]
) -> Table:
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
