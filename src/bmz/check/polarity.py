"""Is the stain of an image brighter than its ground, or darker?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bmz.base.arrays import AnyArray
from bmz.check.survey import Survey, survey

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
