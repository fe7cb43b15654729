"""An alpha channel is dropped only where it says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.image.faults import Transparent


def without_alpha(path: Path, pixels: AnyArray, *, axis: int) -> AnyArray:
    """Drop the last entry along `axis` when it is the same everywhere.

    Parameters
    ----------
    path : for the error
    pixels : samples, the last of them alpha, along `axis`
    axis : of the samples

    Raises
    ------
    Transparent
        Alpha varies: dropping it would show colours that nobody was meant to see.
    """
    alpha = np.take(pixels, -1, axis)
    low, high = float(alpha.min()), float(alpha.max())
    if low != high:
        raise Transparent(path, low, high)
    rest = range(pixels.shape[axis] - 1)
    return pixels[(slice(None),) * axis + (slice(rest.start, rest.stop),)]
