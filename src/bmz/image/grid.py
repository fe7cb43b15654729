"""The grid of an image: coordinates in um along z, y, x, and the pixel size read back from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE


def named(
    pixels: AnyArray, dims: Sequence[str], attrs: Mapping[str, object] | None = None
) -> xr.DataArray:
    """Give an array of NumPy with names for its axes, without copying it.

    Without the quick way xarray imports Dask, where it is installed, to see whether the array is
    one of Dask: a third of a second.
    """
    return xr.DataArray(xr.Variable(tuple(dims), pixels, attrs, fastpath=True))


def with_lengths(
    pixels: xr.DataArray,
    pixel_um: Mapping[str, float],
    *,
    channel_names: tuple[str, ...] = (),
    colour: bool = False,
    first: Mapping[str, int] | None = None,
) -> xr.DataArray:
    """Give `pixels` with coordinates in um along z, y, x and with names along c.

    Parameters
    ----------
    pixels : dims are a subset of t, c, z, y, x
    pixel_um : length of a pixel by axis; axes without one get no coordinate
    channel_names : one a channel, or none
    colour : whether the channels are those of a photograph
    first : of a region, the index of its first pixel by axis; 0 where it is not given
    """
    start = first or {}
    lengths = {a: um for a, um in pixel_um.items() if a in pixels.dims and a in SPACE}
    coords: dict[str, tuple[str, AnyArray, dict[str, str | float]]] = {
        axis: (
            axis,
            np.arange(start.get(axis, 0), start.get(axis, 0) + pixels.sizes[axis]) * um,
            {"units": "um", "pixel_um": um},
        )
        for axis, um in lengths.items()
    }
    if channel_names:
        coords["c"] = ("c", np.array(channel_names), {})
    attrs = {"colour": True} if colour else {}
    return pixels.assign_coords(coords).assign_attrs(attrs)


def pixel_um_of(pixels: xr.DataArray) -> dict[str, float]:
    """Give the length of a pixel in um along those of z, y, x that have it as coordinates.

    An axis of one pixel has no step between coordinates: its length rides in their attributes.
    """
    return {a: um for a in SPACE if (um := _step(pixels, a)) is not None}


def _step(pixels: xr.DataArray, axis: str) -> float | None:
    if axis not in pixels.coords:
        return None
    coordinate = pixels.coords[axis]
    if coordinate.size < 2:  # noqa: PLR2004  (a step needs two)
        alone = coordinate.attrs.get("pixel_um")
        return None if alone is None else float(alone)
    values = coordinate.values
    return float(values[-1] - values[0]) / (len(values) - 1)
