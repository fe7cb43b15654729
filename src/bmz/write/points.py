"""The output kind ``points``: object positions as a table that napari opens as points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.write.result import Result
from bmz.write.tables import write_objects

if TYPE_CHECKING:
    from bmz.base.arrays import AnyArray

_KEPT = ("track", "t_um", "score", "class", "class_probability", "confidence")
"""Columns of the table of objects that are kept for points, in addition to intensities."""

_BRIGHTNESS = ("intensity_mean", "intensity_max")


def write_points(result: Result, path: Path) -> None:
    """Write one row per object as CSV: its label, position, intensity and score.

    The position is the subpixel point found by the recipe, or else the centroid; the centre of the
    first pixel is 0. napari recognizes the columns ``index`` (the label) and ``axis-0``,
    ``axis-1``, ... (the position along those of t, z, y, x that the mask has, px). They are
    followed by ``x_px``, ``y_px``, ``z_px``, the same in um if the pixel size is known, and others.

    Source: napari, ``napari.utils.io.guess_layer_type_from_column_names``.
    """
    axes = result.labels.axes if result.labels is not None else ""
    um = result.pixel_um
    write_objects(path, _points(result, axes, um))


def _points(result: Result, axes: str, um: Mapping[str, float]) -> Iterator[dict[str, AnyArray]]:
    for table in result.rows("table"):
        places = {axis: _along(table, axis) for axis in axes}
        lengths = {axis: um[axis] for axis in axes[::-1] if axis in um and axis != "t"}
        yield {
            "index": table["label"],
            **{f"axis-{k}": places[axis] for k, axis in enumerate(axes)},
            **{f"{axis}_px": places[axis] for axis in axes[::-1] if axis != "t"},
            **{f"{axis}_um": places[axis] * length for axis, length in lengths.items()},
            **{name: table[name] for name in _KEPT if name in table},
            **{name: column for name, column in table.items() if name.startswith(_BRIGHTNESS)},
        }


def _along(table: Mapping[str, AnyArray], axis: str) -> AnyArray:
    """Return the position of each object along an axis, px; its plane if it has no other."""
    names = (f"point_{axis}_px", f"centroid_{axis}_px", axis)
    return np.asarray(next(table[name] for name in names if name in table), np.float64)
