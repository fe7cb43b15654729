"""How many pixels of a map hold NaN or infinity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import AnyArray


@dataclass
class PixelCount:
    """Pixels of maps that were counted so far.

    Parameters
    ----------
    nonfinite : pixels of which a channel is NaN or infinite
    total : all pixels
    maps : how many maps these are
    """

    nonfinite: int = 0
    total: int = 0
    maps: int = 0

    @property
    def share(self) -> float:
        """Give the share of pixels that are NaN or infinite, 0 to 1."""
        return self.nonfinite / self.total if self.total else 0.0

    def add(self, nonfinite: int, total: int) -> None:
        """Count one more map.

        Parameters
        ----------
        nonfinite, total : its pixels, as `nonfinite_pixels` gives them
        """
        self.nonfinite += nonfinite
        self.total += total
        self.maps += 1


def nonfinite_pixels(x: AnyArray, axes: str) -> tuple[int, int]:
    """Count the pixels of which a channel is NaN or infinite, and all pixels.

    Parameters
    ----------
    x : any dtype; whole numbers are always finite
    axes : its axes, with ``c`` or without

    Examples
    --------
    >>> nonfinite_pixels(np.array([[0.0, np.nan, 1.0], [np.inf, np.nan, 2.0]]), "cx")
    (2, 3)
    """
    channels = np.moveaxis(x, axes.index("c"), 0) if "c" in axes else x[None]
    total = int(np.prod(channels.shape[1:], dtype=np.int64))
    if x.dtype.kind != "f" or not x.size:
        return 0, total
    bad = np.zeros(channels.shape[1:], bool)
    for channel in channels:  # one after the other: a map may fill half of the memory
        bad |= ~np.isfinite(channel)
    return int(np.count_nonzero(bad)), total
