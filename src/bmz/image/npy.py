"""NPY files, and arrays of which parts are read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray, LazyArray
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTruncated
from bmz.image.info import UNKNOWN_AXIS, Header


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


class Stored(LazyArray, Protocol):
    """An array on the disk that gives regions of itself; maps and Zarr arrays are some."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the dtype of the pixels, in any byte order."""
        ...


@dataclass(frozen=True)
class Reader:
    """How one format is read; `path` and the number of the series lead to the image.

    Parameters
    ----------
    header : tells what the file says, without reading pixels
    pixels : reads all pixels in the order of the file
    opened : keeps the file open and gives regions; what it raises is not yet one of our errors
    one_image : whether a file of this format holds one image
    palette_numbers : reads the numbers of the colours of a palette; None where there is none
    is_lossy : says whether the compression of a file alters its intensities, where files of one
        format differ in that
    """

    header: Callable[[Path, int], Header]
    pixels: Callable[[Path, int], AnyArray]
    opened: Callable[[Path, int], AbstractContextManager[Stored]]
    one_image: bool = False
    palette_numbers: Callable[[Path], AnyArray | None] = lambda _: None
    is_lossy: Callable[[Path], bool] = lambda _: False
