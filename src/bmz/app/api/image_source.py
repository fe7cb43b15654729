"""An image as the Python API is given it: a path, or an array in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.engine.scale import read_spread
from bmz.image.arrays import ArrayImage, inspect_array
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.read import laid_out, read_image

if TYPE_CHECKING:
    import xarray as xr

ImageLike: TypeAlias = "str | Path | AnyArray | xr.DataArray"


@dataclass(frozen=True)
class Given:
    """An image and what is known of it.

    Parameters
    ----------
    info : its facts
    array : the pixels, where they are in memory; None for a file
    """

    info: ImageInfo
    array: ArrayImage | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of an array in C order; None for a file, which is hashed as it is."""
        if self.array is None:
            return None
        return hashlib.sha256(np.ascontiguousarray(self.array).data.cast("B")).hexdigest()

    def read(self, info: ImageInfo) -> Pixels:
        """Give the pixels, with the words that `info` has of them; see `read_image`."""
        if self.array is None:
            return read_image(info)
        info.refuse_unknown_axes()
        pixels = np.asarray(self.array)
        return laid_out(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), info)

    def sample(self, info: ImageInfo) -> Pixels:
        """Give pixels to look at: of a file an evenly spread sample, else all."""
        if self.array is None:
            return read_spread(info)
        return self.read(info)


def given(image: ImageLike, axes: str | None = None) -> Given:
    """Look at an image.

    Parameters
    ----------
    image : a path, or an array
    axes : the user's word, one letter an axis

    Raises
    ------
    BmzError
        The file cannot be read, or has other axes than the user says.
    """
    if isinstance(image, str | Path):
        return Given(inspect_image(Path(image), axes=axes))
    return Given(inspect_array(image, axes=axes), image)
