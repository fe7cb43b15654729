"""An image in memory: a NumPy array, or a DataArray whose axes have names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, LETTERS
from bmz.image.grid import is_xarray, pixel_um_of
from bmz.image.info import UNKNOWN_AXIS, Header, ImageInfo
from bmz.image.inspect import info_from
from bmz.image.pixel_size import from_lengths

if TYPE_CHECKING:
    import xarray as xr

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
    axes : the user's word, one letter an axis; it outdoes the dims

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
