"""Between `Pixels` and the DataArray of xarray, which the Python API takes and gives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE
from bmz.image.pixels import Pixels

if TYPE_CHECKING:
    import xarray as xr


def to_xarray(pixels: Pixels) -> xr.DataArray:
    """Give pixels as a DataArray, without copying them.

    Returns
    -------
    DataArray
        dims as the axes; coordinates of z, y, x in um where the pixel size is known (the centre
        of the first pixel is 0), of c the names of the channels; ``attrs["colour"]`` where it is
        a colour photograph
    """
    import xarray as xr  # here: with pandas it takes longer than a small image takes to be run

    coords: dict[str, tuple[str, AnyArray, dict[str, str | float]]] = {
        axis: (axis, np.arange(pixels.sizes[axis]) * um, {"units": "um", "pixel_um": um})
        for axis, um in pixels.pixel_um.items()
    }
    if pixels.channel_names:
        coords["c"] = ("c", np.array(pixels.channel_names), {})
    attrs = {"colour": True} if pixels.colour else {}
    # without the quick way xarray imports Dask, where it is installed, to see whether the array
    # is one of Dask
    variable = xr.Variable(pixels.axes, pixels.array, attrs, fastpath=True)
    return xr.DataArray(variable).assign_coords(coords)


def is_xarray(image: object) -> TypeGuard[xr.DataArray]:
    """Say whether `image` is a DataArray; xarray is not imported: whoever has one has done so."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(image, xarray.DataArray)


def pixel_um_of(image: xr.DataArray) -> dict[str, float]:
    """Give the length of a pixel in um along those of z, y, x that have it as coordinates.

    An axis of one pixel has no step between coordinates: its length rides in their attributes.
    """
    return {a: um for a in SPACE if (um := _step(image, a)) is not None}


def _step(image: xr.DataArray, axis: str) -> float | None:
    if axis not in image.coords:
        return None
    coordinate = image.coords[axis]
    if coordinate.size <= 1:
        alone = coordinate.attrs.get("pixel_um")
        return None if alone is None else float(alone)
    values = coordinate.values
    return float(values[-1] - values[0]) / (len(values) - 1)
