"""NumPy's own files, mapped rather than read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTruncated
from bmz.image.header import Header
from bmz.image.info import UNKNOWN_AXIS


def npy_header(path: Path) -> Header:
    """Read shape and dtype; no axis has a name, but two axes can only be y and x.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is not sound.
    """
    array = npy_mapped(path)
    return Header(UNKNOWN_AXIS * array.ndim, array.shape, array.dtype.newbyteorder("="))


def npy_pixels(path: Path) -> AnyArray:
    """Map the array; one in foreign byte order is read.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is not sound.
    """
    array = npy_mapped(path)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def npy_array(path: Path) -> AnyArray:
    """Read the array, which may then be written to, in the byte order of the file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is not sound, or holds several arrays, or objects.
    """
    array = npy_mapped(path)
    with decoding(path, "NPY"):
        return np.array(array)


def npy_mapped(path: Path) -> AnyArray:
    """Map the array in the byte order of the file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty
        The file is not sound.
    """
    with decoding(path, "NPY"):
        size = path.stat().st_size
        try:
            array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as why:
            # numpy maps before it compares sizes, and these are the words of mmap
            if "greater than file size" in str(why):
                raise ImageTruncated(path, f"its array wants more than {size} bytes") from why
            raise
        if not array.size:
            raise ImageEmpty(path, array.shape)
        return array
