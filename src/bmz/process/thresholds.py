"""A threshold by hand or by Otsu's method."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray

OTSU = -1.0
"""The threshold is found by Otsu's method."""


def threshold_of(values: AnyArray, asked: float) -> float:
    """Give `asked`, or for -1 the threshold that parts the values best.

    Source: Otsu 1979 (doi 10.1109/TSMC.1979.4310076), ``skimage.filters.threshold_otsu``.

    Parameters
    ----------
    values : a map of any shape; values that are no number are left out
    asked : in the unit of the map, or `OTSU`
    """
    from skimage.filters import threshold_otsu  # here: it takes long to import

    if asked != OTSU:
        return asked
    known = values[np.isfinite(values)]
    return float(threshold_otsu(known)) if known.size else np.inf
