"""An image in memory, and the arrays of NumPy and xarray that the Python API takes and gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, LETTERS, SPACE
from bmz.image.info import UNKNOWN_AXIS, Header, ImageInfo
from bmz.image.inspect import info_from
from bmz.image.pixel_size import from_lengths
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


ArrayImage: TypeAlias = "AnyArray | xr.DataArray"

NAME = "array"
"""What an image without a name is called."""


def inspect_array(image: ArrayImage, *, axes: str | None = None) -> ImageInfo:
    """Tell what an array says of itself, as `bmz.image.inspect.inspect_image` does of a file.

    Parameters
    ----------
    image : real numbers; a DataArray names its axes by its dims (t, c, z, y, x, or time and
        channel), has the pixel size as coordinates of z, y, x in um, the names of channels as
        coordinates of c, and says that it is a photograph by ``attrs["colour"]``
    axes : as the user states them, one letter per axis; they override the dims

    Raises
    ------
    PixelsRefused, AxesRefused
        It holds no real numbers, or has other axes than the user says.
    """
    name = getattr(image, "name", None)
    return info_from(Path(NAME if name is None else str(name)), _header(image), axes=axes)


def _header(image: ArrayImage) -> Header:
    dtype = np.dtype(image.dtype).newbyteorder("=")
    if not is_xarray(image):
        return Header(UNKNOWN_AXIS * image.ndim, image.shape, dtype)
    letters = _letters([str(dim) for dim in image.dims])
    pairs = zip(image.dims, letters, strict=True)
    named = image.rename({dim: a for dim, a in pairs if a not in (UNKNOWN_AXIS, dim)})
    um = pixel_um_of(named)
    return Header(
        letters,
        tuple(image.shape),
        dtype,
        from_lengths(um, dict.fromkeys(um, "um"), "coordinates"),
        _channel_names(named),
        bool(image.attrs.get("colour", False)),
    )


def _letters(dims: list[str]) -> str:
    letters = ""
    for dim in dims:
        letter = LETTERS.get(dim, dim)
        known = letter in IMAGE_AXES and len(letter) == 1 and letter not in letters
        letters += letter if known else UNKNOWN_AXIS
    return letters


def _channel_names(image: xr.DataArray) -> tuple[str, ...]:
    if "c" not in image.coords or image.coords["c"].dtype.kind not in "UO":
        return ()
    return tuple(str(name) for name in np.atleast_1d(image.coords["c"].values))
