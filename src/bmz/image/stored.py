"""What every format offers: a header, all pixels, or pixels by region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray, LazyArray
from bmz.image.header import Header


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
