"""What is measured of a plane, and the rules on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.check.object_size import ObjectSize, Survey, object_size, survey
from bmz.check.pixel_values import (
    Bits,
    Contrast,
    Outliers,
    Saturation,
    bits,
    contrast,
    outliers,
    saturation,
    sorted_finite,
    within_unit,
)
from bmz.image.pixels import Pixels

Side = Literal["bright", "dark"]

CLEAR_SKEW = 0.4
"""From this skewness on one side outweighs the other; noise of any grain stays below 0.3."""

CONTRARY = 0.5
"""Where one scale says bright and another dark, the weaker must stay below this share."""


@dataclass(frozen=True)
class Polarity:
    """Which side of the ground the stain is on.

    Parameters
    ----------
    side : ``bright`` as in fluorescence, walls of cells included, or ``dark``
    reliability : 0 to 1
    """

    side: Side
    reliability: float


def polarity(plane: AnyArray) -> Polarity | None:
    """Tell whether structures are bright on a dark ground or the reverse.

    The Laplacian of a plane with sparse bright structures has few large and many small values: it
    is skewed. That of noise is not, nor that of a texture with as many hills as valleys.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit

    Returns
    -------
    Polarity or None
        None for flat planes, noise, and where the scales do not agree, as in phase contrast.
    """
    scales = survey(plane)
    return None if scales is None else polarity_of(scales)


def polarity_of(scales: Survey) -> Polarity | None:
    """Tell the polarity from what the scales of a plane show."""
    skews = [skew for _, skew in scales.skews]
    bright, dark = max([0.0, *skews]), max([0.0, *(-skew for skew in skews)])
    strong, weak = max(bright, dark), min(bright, dark)
    if strong < CLEAR_SKEW or weak > CONTRARY * strong:
        return None
    side: Side = "bright" if bright > dark else "dark"
    return Polarity(side, min(1.0, strong / (3 * CLEAR_SKEW)) * (1 - weak / strong))


EMPTY_CHANNEL = -1
"""In place of a channel number: fill this channel of the model with zeros."""

SIDE_PX = 1024
"""The middle of a larger plane is measured: enough for hundreds of objects."""


@dataclass(frozen=True)
class PlaneMeasures:
    """Measurements of one plane; `None` is unknown.

    Parameters
    ----------
    shape : (height, width) in px
    dtype : NumPy's name
    nonfinite : number of NaN and infinite pixels
    minimum, maximum, mean, deviation : of the finite pixels
    unit_range : fractions between 0 and 1
    outliers, saturation, contrast, bits : see their classes
    size : characteristic object diameter
    polarity : side of the stain
    """

    shape: tuple[int, int]
    dtype: str
    nonfinite: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    unit_range: bool
    outliers: Outliers
    saturation: Saturation
    contrast: Contrast
    bits: Bits | None
    size: ObjectSize | None
    polarity: Polarity | None


def measure_plane(plane: AnyArray) -> PlaneMeasures | None:
    """Measure a plane; None when it holds no finite value.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit

    Raises
    ------
    ValueError
        `plane` is not 2-D.
    """
    order = sorted_finite(plane)
    if order.size == 0:
        return None
    scales = survey(plane, order)
    finite = plane.ravel() if order.size == plane.size else plane[np.isfinite(plane)]
    height, width = plane.shape
    return PlaneMeasures(
        shape=(height, width),
        dtype=str(plane.dtype),
        nonfinite=int(plane.size - order.size),
        minimum=float(order[0]),
        maximum=float(order[-1]),
        mean=float(finite.mean(dtype=np.float64)),
        deviation=float(finite.std(dtype=np.float64)),
        unit_range=within_unit(order),
        outliers=outliers(plane, order),
        saturation=saturation(plane, order),
        contrast=contrast(plane, order),
        bits=bits(plane, order),
        size=object_size(scales) if scales else None,
        polarity=polarity_of(scales) if scales else None,
    )


def image_measures(pixels: Pixels, channels: Sequence[int]) -> dict[int, PlaneMeasures]:
    """Measure one plane of each used channel: the one with the most contrast.

    Parameters
    ----------
    pixels : axes of ``tczyx``, or a sample with ``tile`` in place of t and z
    channels : image channel of each channel of the model

    Returns
    -------
    dict
        channel of the model -> measures; channels that are empty or not finite are left out
    """
    found = {}
    array, axes = pixels.array, pixels.axes
    for position, channel in enumerate(channels):
        if channel == EMPTY_CHANNEL:
            continue
        stack = np.moveaxis(array, axes.index("c"), 0)[channel] if "c" in axes else array
        measures = measure_plane(_fullest(stack))
        if measures is not None:
            found[position] = measures
    return found


def _fullest(stack: AnyArray) -> AnyArray:
    y, x = (slice(max(0, (n - SIDE_PX) // 2), (n + SIDE_PX) // 2) for n in stack.shape[-2:])
    planes = stack.reshape(-1, *stack.shape[-2:])[:, y, x]
    with np.errstate(invalid="ignore", over="ignore"):  # the check tells of what is not finite
        spreads = [float(np.std(plane, dtype=np.float64)) for plane in planes]
    return np.asarray(planes[int(np.argmax(np.nan_to_num(spreads)))])
