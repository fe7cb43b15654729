"""The plane cut along the zero crossings of its Laplacian: how large are the parts?

Zero crossings of the Laplacian of Gaussian are edges (Marr and Hildreth 1980). An object keeps the
size of its part over a wide range of blurs; what noise and texture cut grows with the blur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bmz.check.blobs import Level
from bmz.check.connected import parts_of

DIAMETER_TO_SIGMA = 6.0
"""Objects are measured at the blur that is this many times smaller than they are: wide enough to
quiet noise, too small to join neighbours."""

FAINT = 1e-3
"""Levels with a weaker response than this share of the range of the plane are rounding."""

CUT_LEVELS = (1, 3)
"""Levels of an octave that are cut."""


@dataclass(frozen=True)
class Cut:
    """The bright or the dark parts at one blur.

    Parameters
    ----------
    sigma_px : the blur
    diameter_px : diameter of a disc as large as the median part, by energy
    parts : how many parts are at least a third as large as the median one
    """

    sigma_px: float
    diameter_px: float
    parts: int


@dataclass(frozen=True)
class PartSize:
    """The size at which the parts of one sign are `DIAMETER_TO_SIGMA` times the blur.

    Parameters
    ----------
    diameter_px : it
    sign : 1 for bright parts, -1 for dark ones
    slope : growth of the diameter with the blur there, d log / d log: 0 for objects, about 1 for
        what has no size of its own
    parts : how many parts are at least a third as large as the median one
    """

    diameter_px: float
    sign: int
    slope: float
    parts: float


def cut_of(level: Level, sign: int) -> Cut:
    """Measure the parts that are brighter (1) or darker (-1) than around."""
    response = level.response
    positive = response > 0 if sign > 0 else response < 0
    parts = parts_of(positive)
    if parts.count == 0:
        return Cut(level.sigma, 0.0, 0)
    areas = parts.areas()
    energies = parts.sums(np.square(response[positive]))
    order = np.argsort(areas)
    halfway = np.searchsorted(np.cumsum(energies[order]), energies.sum() / 2)
    median = float(areas[order][min(int(halfway), parts.count - 1)])
    return Cut(
        level.sigma,
        float(level.pixel * 2 * np.sqrt(median / np.pi)),
        int((areas > median / 3).sum()),
    )


def part_sizes(cuts: Sequence[Cut], sign: int) -> list[PartSize]:
    """Find the blurs, from fine to coarse, beyond which the parts are too small for the blur.

    Diameters are interpolated between blurs along log and log.
    """
    used = [cut for cut in cuts if cut.diameter_px > 0]
    found = []
    for fine, coarse in pairwise(used):
        over = np.log(fine.diameter_px / (DIAMETER_TO_SIGMA * fine.sigma_px))
        under = np.log(coarse.diameter_px / (DIAMETER_TO_SIGMA * coarse.sigma_px))
        if over >= 0 > under:
            t = float(over / (over - under))
            growth = float(np.log(coarse.diameter_px / fine.diameter_px))
            diameter = fine.diameter_px * float(np.exp(growth * t))
            slope = growth / float(np.log(coarse.sigma_px / fine.sigma_px))
            parts = (1 - t) * fine.parts + t * coarse.parts
            found.append(PartSize(diameter, sign, slope, parts))
    return found


def response_skew(level: Level, least_samples: int = 100) -> float | None:
    """Give the skewness of the response; None for a faint one, or too few independent samples.

    Noise of any grain has skewness 0; bright things on a dark ground have a positive one.
    """
    response = level.response
    samples = response.size * (level.pixel / (2 * level.sigma)) ** 2
    squares = response * response
    square = float(np.mean(squares, dtype=np.float64))
    if samples < least_samples or square <= FAINT**2:
        return None
    squares *= response
    cube = float(np.mean(squares, dtype=np.float64))
    return cube / float(square**1.5)
