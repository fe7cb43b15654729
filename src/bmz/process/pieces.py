"""Does a mask give each object a number of its own, or tell objects from background only?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmz.base.arrays import AnyArray

SIDE_PX = 1024
"""Of larger planes the middle is looked at."""

PLANES = 8
"""Of more planes than these some are looked at, evenly spread."""


SPECK_PX = 3
"""A piece of no more pixels is none of an object."""


class Pieces(NamedTuple):
    """How many values a mask has beside 0, and in how many connected pieces they lie.

    Parameters
    ----------
    values, pieces : of the planes that were looked at, added up
    specks : pieces of at most `SPECK_PX`
    left_out : numbers between 0 and the largest that no pixel of the whole mask has
    """

    values: int
    pieces: int
    specks: int
    left_out: int


def only_value(mask: AnyArray) -> int | None:
    """Give the one value of a mask beside 0; None where there are several, or none.

    Parameters
    ----------
    mask : integers from 0
    """
    value = int(mask.max(initial=0))
    return value if value and not ((mask != 0) & (mask != value)).any() else None


def piece_count(foreground: AnyArray, least_share: float = 0.0) -> int:
    """Count the connected pieces of a foreground; pixels that touch at a corner are connected.

    Parameters
    ----------
    foreground : anything but 0 is of it
    least_share : pieces smaller than this share of the largest are left out
    """
    from skimage.measure import label  # here: it takes long to import

    areas = np.bincount(label(foreground != 0).ravel())[1:]
    return int(np.count_nonzero(areas >= least_share * areas.max(initial=0)))


def holes(plane: AnyArray) -> int:
    """Count the pieces of 0 within a value that fills the corners of a plane, else 0.

    Parameters
    ----------
    plane : (y, x), 0 and one value
    """
    around = plane[:: max(len(plane) - 1, 1), :: max(plane.shape[1] - 1, 1)]
    return piece_count(plane == 0) if around.all() else 0


def pieces_of_planes(mask: AnyArray) -> Pieces:
    """Count values and their pieces plane by plane: an object may come back in another plane.

    Parameters
    ----------
    mask : (..., y, x) integers from 0
    """
    from skimage.measure import label

    if not mask.size:
        return Pieces(0, 0, 0, 0)
    y, x = (slice(max(0, (n - SIDE_PX) // 2), (n + SIDE_PX) // 2) for n in mask.shape[-2:])
    planes = mask.reshape(-1, *mask.shape[-2:])[:, y, x]
    chosen = np.linspace(0, len(planes) - 1, min(len(planes), PLANES)).astype(int)
    counts = np.zeros(3, int)
    for plane in planes[chosen]:
        areas = np.bincount(label(plane, background=0).ravel())[1:]
        specks = np.count_nonzero(areas <= SPECK_PX)
        counts += [np.count_nonzero(np.unique(plane)), len(areas), specks]
    left_out = int(mask.max()) - int(np.count_nonzero(np.unique(mask)))
    return Pieces(int(counts[0]), int(counts[1]), int(counts[2]), left_out)


def numbered_pieces(mask: AnyArray) -> AnyArray:
    """Give each connected piece of one value a number of its own, from 1; 0 stays background.

    Parameters
    ----------
    mask : integers from 0

    Returns
    -------
    array of int64, as `mask`
    """
    from skimage.measure import label

    numbered: AnyArray = label(mask, background=0)
    return numbered
