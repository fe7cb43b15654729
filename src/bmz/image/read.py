"""Pixels with named axes and lengths in um."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import in_image_order
from bmz.image.formats import format_of
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.readers import READERS


def read_image(info: ImageInfo) -> Pixels:
    """Read the pixels of an inspected image.

    Uncompressed TIFF and NPY are mapped from the disk and read-only: only what is used is read.

    Parameters
    ----------
    info : as `bmz.image.inspect.inspect_image` gives it

    Returns
    -------
    Pixels
        dtype as stored; the named axes in the order t, c, z, y, x, always with y and x

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        The pixels are damaged, cut short, transparent, or larger than the memory.
    """
    info.refuse_unknown_axes()
    return laid_out(READERS[format_of(info.path)].pixels(info.path, info.series), info)


def laid_out(pixels: AnyArray, info: ImageInfo) -> Pixels:
    """Give pixels the names of their axes, their lengths, and the order t, c, z, y, x.

    Parameters
    ----------
    pixels : as stored, but for axes of size 1
    info : of the image

    Raises
    ------
    ImageUnreadable
        They have another size or dtype than the header said.
    """
    info.refuse_changed(pixels.shape, pixels.dtype)
    stored = Pixels(
        np.asarray(pixels).reshape(info.shape),
        tuple(info.axes),
        info.pixel_um,
        info.channel_names,
        info.colour,
    )
    return stored.transposed(in_image_order(info.axes))
