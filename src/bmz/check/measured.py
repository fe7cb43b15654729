"""Measure planes: values, object size, polarity of the stain, and kind."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.axes import EMPTY_CHANNEL
from bmz.base.values import dataclass
from bmz.check.kind import (
    ImageKind,
    channel_stacks,
    fullest,
    is_photograph,
    kind_of_features,
    photograph,
)
from bmz.check.kind_features import features
from bmz.check.object_size import ObjectSize, Survey, object_size, survey
from bmz.check.pixel_values import (
    Bits,
    Contrast,
    Outliers,
    Saturation,
    bits,
    contrast,
    mean_and_deviation,
    outliers,
    saturation,
    sorted_finite,
    within_unit,
)
from bmz.image.pixels import Pixels

Side = Literal["bright", "dark"]

CLEAR_SKEW = 0.4
"""From this skewness, one side outweighs the other; noise of any grain stays below 0.3."""

MOST_CHANNELS = 6
"""Maximum number of channels, in order, whose content is determined."""

CONTRARY = 0.5
"""If one scale indicates bright and another dark, the weaker must stay below this fraction."""


@dataclass(frozen=True)
class Polarity:
    """Whether the stain is brighter or darker than the background.

    Parameters
    ----------
    side : ``bright`` as in fluorescence, including cell walls, or ``dark``
    reliability : 0 to 1
    """

    side: Side
    reliability: float


def polarity(plane: AnyArray) -> Polarity | None:
    """Return whether structures are bright on a dark background or the reverse.

    The Laplacian of a plane with sparse bright structures has few large and many small values, so
    it is skewed. That of noise, or of a texture with as many hills as valleys, is not.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit

    Returns
    -------
    Polarity or None
        None for flat planes, noise, and if the scales disagree, as in phase contrast.
    """
    scales = survey(plane)
    return None if scales is None else polarity_of(scales)


def polarity_of(scales: Survey) -> Polarity | None:
    """Determine the polarity from what the scales of a plane show."""
    skews = [skew for _, skew in scales.skews]
    bright, dark = max([0.0, *skews]), max([0.0, *(-skew for skew in skews)])
    strong, weak = max(bright, dark), min(bright, dark)
    if strong < CLEAR_SKEW or weak > CONTRARY * strong:
        return None
    side: Side = "bright" if bright > dark else "dark"
    return Polarity(side, min(1.0, strong / (3 * CLEAR_SKEW)) * (1 - weak / strong))


@dataclass(frozen=True)
class PlaneMeasures:
    """Measurements of one plane; `None` is unknown.

    Parameters
    ----------
    shape : (height, width) in px
    dtype : NumPy's name
    nonfinite : number of NaN and infinite pixels
    minimum, maximum, mean, deviation : statistics of the finite pixels
    unit_range : whether the values are fractions between 0 and 1
    outliers, saturation, contrast, bits : see their classes
    size : characteristic object diameter
    polarity : side of the stain
    kind : what the plane shows
    features : features that describe it, see `bmz.check.kind_features`; None for a feature that
        does not apply; empty for a plane that is flat or too small
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
    kind: ImageKind | None = None
    features: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Look:
    """The appearance of a plane or a colour image.

    Parameters
    ----------
    kind, features : see `PlaneMeasures`
    """

    kind: ImageKind | None = None
    features: tuple[float | None, ...] = ()


UNSEEN = Look()
"""Appearance of a plane that was not examined."""


def look_at(plane: AnyArray) -> Look:
    """Determine the kind and the features of a plane or a colour image.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3), any real dtype and unit
    """
    row = features(plane)
    if row is None:
        return UNSEEN
    kept = row.tolist()
    for at in np.flatnonzero(np.isnan(row)):
        kept[at] = None
    return Look(kind_of_features(row), tuple(kept))


def features_of(kept: Sequence[float | None]) -> FloatArray:
    """Convert stored features to the form that `bmz.check.kind_features` takes."""
    return np.array([nan if value is None else value for value in kept], np.float32)


def measure_plane(plane: AnyArray, look: Look | None = None) -> PlaneMeasures | None:
    """Measure a plane; return None if it contains no finite value.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    look : appearance of the plane if already known, as for the channels of an RGB image

    Raises
    ------
    ValueError
        `plane` is not 2-D.
    """
    order = sorted_finite(plane)
    if order.size == 0:
        return None
    scales = survey(plane, order)
    mean, deviation = mean_and_deviation(order)
    height, width = plane.shape
    look = look_at(plane) if look is None else look
    return PlaneMeasures(
        shape=(height, width),
        dtype=str(plane.dtype),
        nonfinite=int(plane.size - order.size),
        minimum=float(order[0]),
        maximum=float(order[-1]),
        mean=mean,
        deviation=deviation,
        unit_range=within_unit(order),
        outliers=outliers(plane, order),
        saturation=saturation(plane, order),
        contrast=contrast(plane, order),
        bits=bits(plane, order),
        size=object_size(scales) if scales else None,
        polarity=polarity_of(scales) if scales else None,
        kind=look.kind,
        features=look.features,
    )


def image_measures(
    pixels: Pixels, channels: Sequence[int], look: Look | None = None
) -> dict[int, PlaneMeasures]:
    """Measure one plane of each used channel, the one with the highest contrast.

    In an RGB image, every channel has the kind of the whole, unless it shows fluorescence. From
    the channel `MOST_CHANNELS` of the model on, no kind is determined.

    Parameters
    ----------
    pixels : axes of ``tczyx``, or a sample with ``tile`` in place of t and z
    channels : image channel of each channel of the model; repeated channels are measured once
    look : appearance of all channels, if it should not be determined

    Returns
    -------
    dict
        channel of the model -> measurements, without channels that are empty or not finite
    """
    stacks = channel_stacks(pixels)
    if look is None and is_photograph(pixels):
        whole = look_at(photograph(pixels))
        # stains that were saved as colours: each is in its own channel
        look = None if whole.kind and whole.kind.family == "fluorescence" else whole
    measures: dict[int, PlaneMeasures | None] = {EMPTY_CHANNEL: None}
    for position, channel in enumerate(channels):
        if channel not in measures:
            known = UNSEEN if look is None and position >= MOST_CHANNELS else look
            measures[channel] = measure_plane(fullest(stacks[channel]), known)
    of_each = enumerate(map(measures.get, channels))
    return {position: of_one for position, of_one in of_each if of_one is not None}
