"""Pixels as they are shown: each channel stretched to its percentiles, then joined in colour."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.image.pixels import Pixels

PERCENTS = (1.0, 99.8)
"""What is shown as black and as white, where nothing else is asked for."""

_GREY = (1.0, 1.0, 1.0)
# pairs and triples that people without red or green cones tell apart
COLOURS = {
    1: (_GREY,),
    2: ((1.0, 0.2, 0.9), (0.1, 0.9, 0.2)),
    3: ((1.0, 0.2, 0.9), (0.2, 0.9, 0.2), (0.1, 0.45, 1.0)),
}
_MOST_CHANNELS = 3
_GAMMA = 0.75
"""Lifts what is dim: a screen shows less than a camera sees."""


def in_colour(image: Pixels) -> FloatArray:
    """Show one plane in red, green and blue.

    A photograph keeps its colours: its channels are stretched together. Stains are stretched one
    by one and added up, up to three of them; of more the first three are shown.

    Parameters
    ----------
    image : axes y, x and perhaps c

    Returns
    -------
    (y, x, 3) float32
        from 0 to 1
    """
    if "c" not in image.axes:
        return _added(image.transposed("yx").array[None])
    channels = image.transposed("cyx").array
    if image.colour and len(channels) == _MOST_CHANNELS:
        return np.moveaxis(stretched(channels), 0, -1)
    return _added(channels[:_MOST_CHANNELS])


def stretched(pixels: AnyArray, percents: tuple[float, float] = PERCENTS) -> FloatArray:
    """Bring two percentiles to 0 and 1 and cut off what lies outside; NaN becomes 0."""
    with np.errstate(over="ignore"):  # what float32 does not hold is as bright as can be
        real = pixels.astype(np.float32)
    known = real[np.isfinite(real)]
    if not known.size:
        return np.zeros_like(real)
    low, high = np.percentile(known, percents)
    if high <= low:
        low, high = float(known.min()), float(known.max())
    span = high - low if high > low else 1
    shown: FloatArray = np.clip((np.nan_to_num(real, nan=low) - low) / span, 0, 1)
    return shown.astype(np.float32)


def _added(channels: AnyArray) -> FloatArray:
    total = np.zeros((*channels.shape[1:], 3), np.float32)
    for channel, colour in zip(channels, COLOURS[len(channels)], strict=True):
        total = total + stretched(channel)[..., None] ** _GAMMA * np.array(colour, np.float32)
    return np.clip(total, 0, 1)
