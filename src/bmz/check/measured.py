"""All that is measured on one plane, of an image or of a model's own sample tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.check.object_size import ObjectSize, object_size
from bmz.check.pixel_values import (
    Bits,
    Contrast,
    Outliers,
    Saturation,
    bits,
    contrast,
    outliers,
    saturation,
    within_unit,
)
from bmz.check.polarity import Polarity, polarity_of
from bmz.check.sorted_values import sorted_finite
from bmz.check.survey import survey
from bmz.image.pixels import Pixels

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
