"""Estimate the object size in an image, from blobs and from the parts that its Laplacian cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from functools import cached_property
from itertools import pairwise
from math import exp, inf, log
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass
from bmz.check.blobs import (
    LEAST_PX,
    LEAST_SIDE,
    Level,
    blobs_of,
    levels_of_enlarged,
    octaves,
    stretched,
    tops_of,
)
from bmz.check.blurs import blurred_line, doubled
from bmz.check.connected import parts_of
from bmz.check.kind_texture import product

DIAMETER_TO_SIGMA = 6.0
"""Objects are measured at a blur this many times smaller than they are: wide enough to suppress
noise, too narrow to join neighbours."""

FAINT = 1e-3
"""Levels with a response below this fraction of the range of the plane are rounding errors."""

CUT_LEVELS = (1, 3)
"""Levels of an octave that are cut into parts."""

BIN = 0.05
"""Width of a bin of the size spectrum, in octaves."""

SIZES = np.arange(0.5, 9.5, BIN)
"""Bins of the size spectrum: log2 of the diameter in px."""

SMOOTHING = 0.35
"""Blur of the size spectrum, in octaves."""


@dataclass(frozen=True)
class BlobPeak:
    """The most common size of blobs.

    Parameters
    ----------
    diameter_px : diameter of the blobs
    sign : 1 for bright blobs, -1 for dark ones
    dominance : how far this sign outweighs the other at that size, 0 to 1
    share : share of the total energy of both signs within about an octave of that size, 0 to 1
    """

    diameter_px: float
    sign: int
    dominance: float
    share: float


def blob_peak(blobs: FloatArray) -> BlobPeak | None:
    """Find the size at which blobs of one sign outweigh those of the other most.

    Noise causes as many bright as dark blobs, so it cancels in the difference.

    Parameters
    ----------
    blobs : (n, 2) result of `blobs_of`
    """
    bright, dark = _spectra(blobs[blobs[:, 0] >= LEAST_PX])
    difference, both = bright - dark, bright + dark
    at = int(np.abs(difference).argmax())
    if not both[at] > 0:
        return None
    return BlobPeak(
        float(2 ** SIZES[at]),
        1 if difference[at] > 0 else -1,
        float(abs(difference[at]) / both[at]),
        float(abs(difference[at]) / (both.sum() * BIN)),
    )


def _spectra(blobs: FloatArray) -> Iterator[FloatArray]:
    """Yield the energy of bright and of dark blobs in each bin."""
    bins = np.floor((np.log2(blobs[:, 0]) - SIZES[0]) / BIN + 0.5).astype(np.intp)
    # none is smaller than the first: it is below `LEAST_PX`
    bins = np.minimum(bins, len(SIZES))
    for sign in (1, -1):
        energies = np.maximum(sign * blobs[:, 1], 0)
        energy: FloatArray = np.bincount(bins, energies, len(SIZES) + 1).astype(np.float64)
        yield blurred_line(energy[: len(SIZES)], SMOOTHING / BIN)


@dataclass(frozen=True)
class Cut:
    """The bright or the dark parts at one blur.

    Parameters
    ----------
    sigma_px : the blur
    diameter_px : diameter of a disc with the area of the median part, weighted by energy
    parts : number of parts at least a third as large as the median one
    """

    sigma_px: float
    diameter_px: float
    parts: int


@dataclass(frozen=True)
class PartSize:
    """The size at which the parts of one sign are `DIAMETER_TO_SIGMA` times the blur.

    Parameters
    ----------
    diameter_px : diameter of the parts
    sign : 1 for bright parts, -1 for dark ones
    slope : growth of the diameter with the blur there, d log / d log: 0 for objects, about 1 for
        structures without a characteristic size
    parts : number of parts at least a third as large as the median one
    """

    diameter_px: float
    sign: int
    slope: float
    parts: float


def cut_of(level: Level, sign: int) -> Cut:
    """Measure the parts that are brighter (1) or darker (-1) than their surroundings."""
    height = np.maximum(level.response if sign > 0 else -level.response, 0)
    parts = parts_of(height > 0)
    if parts.count == 0:
        return Cut(level.sigma, 0.0, 0)
    areas = parts.areas()
    energies = parts.sums_of(np.square(height, out=height))
    order = np.argsort(areas)
    halfway = np.searchsorted(np.cumsum(energies[order]), energies.sum() / 2)
    median = float(areas[order][min(int(halfway), parts.count - 1)])
    return Cut(
        level.sigma,
        float(level.pixel * 2 * np.sqrt(median / np.pi)),
        int((areas > median / 3).sum()),
    )


def part_size(fine: Cut, coarse: Cut, sign: int) -> PartSize | None:
    """Find the blur between two others at which the parts have the diameter that suits it.

    Diameters are interpolated between the blurs on log-log axes; at the blur found, the diameter
    is `DIAMETER_TO_SIGMA` times the blur.
    """
    over = log(fine.diameter_px / (DIAMETER_TO_SIGMA * fine.sigma_px))
    under = log(coarse.diameter_px / (DIAMETER_TO_SIGMA * coarse.sigma_px))
    if not over >= 0 > under:
        return None
    t = over / (over - under)
    growth = log(coarse.diameter_px / fine.diameter_px)
    slope = growth / log(coarse.sigma_px / fine.sigma_px)
    parts = (1 - t) * fine.parts + t * coarse.parts
    return PartSize(fine.diameter_px * exp(growth * t), sign, slope, parts)


def response_skew(level: Level, least_samples: int = 100) -> float | None:
    """Return the skewness of the response; None if it is faint or has too few independent samples.

    Noise of any grain has skewness 0; bright objects on a dark background have positive skewness.
    """
    response = level.response
    samples = response.size * (level.pixel / (2 * level.sigma)) ** 2
    if samples < least_samples:
        return None
    square = product(response, response) / response.size
    if square <= FAINT**2:
        return None
    cube = product(response * response, response) / response.size
    return cube / float(square**1.5)


SMALL_PX = 14.0
"""Below this diameter, parts are also measured on the plane enlarged to twice its size."""

SMALL_WINDOW = 400
"""Side of the middle part of the plane that is enlarged to twice its size, in px."""


Pair = tuple[Level, Level]
"""A blur and the next coarser one."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The measurements of a plane over scales.

    Cutting a level takes as long as computing it, and most planes need only a few cuts around the
    size of their blobs, so each cut is made on demand.

    Parameters
    ----------
    image : (y, x) float32, the plane, stretched
    peak : the commonest size of blob
    levels : responses whose parts are measured, from fine to coarse
    skews : (sigma in px, skewness of the Laplacian) from fine to coarse
    """

    image: FloatArray
    peak: BlobPeak
    levels: tuple[Level, ...]
    skews: tuple[tuple[float, float], ...]
    _cuts: dict[tuple[float, int], Cut] = field(default_factory=dict, init=False)

    @property
    def least_side(self) -> int:
        """Return the smaller side, in px."""
        least: int = min(self.image.shape)
        return least

    @cached_property
    def all_levels(self) -> tuple[Level, ...]:
        """Return the levels; for small objects, with finer ones of the plane at twice its size."""
        if self.peak.diameter_px >= SMALL_PX:
            return self.levels
        finer = levels_of_enlarged(doubled(_middle(self.image)), CUT_LEVELS, 0.5)
        return (*finer, *self.levels)

    def parts(self, sign: int, most_px: float = inf) -> list[PartSize]:
        """Measure the bright (1) or the dark (-1) parts up to a diameter, from fine to coarse."""
        pairs = [pair for pair in _pairs(self.all_levels, sign) if _least_px(pair) <= most_px]
        parts = (self._part(pair, sign) for pair in pairs)
        return [part for part in parts if part is not None and part.diameter_px <= most_px]

    def parts_near_blobs(self, most_px: float) -> PartSize | None:
        """Find the parts with a size of their own that come nearest to the commonest blobs.

        Parameters
        ----------
        most_px : parts of a larger diameter are left out
        """
        coarse = _pairs(self.levels, self.peak.sign)
        nearest = self._nearest(coarse, most_px)
        # all finer levels would yield smaller parts
        is_found = nearest is not None and self._gap(nearest) <= log(
            self.peak.diameter_px / _least_px(coarse[0])
        )
        return (
            nearest if is_found else self._nearest(_pairs(self.all_levels, self.peak.sign), most_px)
        )

    def _nearest(self, pairs: Sequence[Pair], most_px: float) -> PartSize | None:
        """Search from the levels around the size of the blobs outwards, only as far as needed."""
        size = log(self.peak.diameter_px / DIAMETER_TO_SIGMA)
        gaps = [
            max(0.0, log(fine.sigma) - size, size - log(coarse.sigma)) for fine, coarse in pairs
        ]
        nearest: PartSize | None = None
        for least_gap, pair in sorted(zip(gaps, pairs, strict=True), key=lambda both: both[0]):
            if nearest is not None and self._gap(nearest) <= least_gap:
                break
            part = self._part(pair, self.peak.sign)
            if part is None or abs(part.slope) > STEEP or part.diameter_px > most_px:
                continue
            if nearest is None or self._gap(part) < self._gap(nearest):
                nearest = part
        return nearest

    def _gap(self, part: PartSize) -> float:
        return abs(log(part.diameter_px / self.peak.diameter_px))

    def _part(self, pair: Pair, sign: int) -> PartSize | None:
        fine, coarse = (self._cut(level, sign) for level in pair)
        return part_size(fine, coarse, sign)

    def _cut(self, level: Level, sign: int) -> Cut:
        key = level.sigma, sign
        if key not in self._cuts:
            self._cuts[key] = cut_of(level, sign)
        return self._cuts[key]


def _pairs(levels: Iterable[Level], sign: int) -> list[Pair]:
    """Pair each level with the next coarser one, skipping levels without parts of this sign."""
    most = np.max if sign > 0 else np.min
    return list(pairwise(level for level in levels if sign * most(level.response) > 0))


def _least_px(pair: Pair) -> float:
    """Return the smallest diameter that `part_size` finds between two levels."""
    return DIAMETER_TO_SIGMA * pair[0].sigma


def survey(plane: AnyArray, order: AnyArray | None = None) -> Survey | None:
    """Measure a plane over scales; return None if it is flat or has a side below 10 px.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    order : its finite values in ascending order, if already known
    """
    if plane.ndim != 2:  # noqa: PLR2004 - a plane has y and x
        raise ValueError(f"a plane has the axes y and x, this array has {plane.ndim}")
    image = stretched(plane, order) if min(plane.shape) >= LEAST_SIDE else None
    if image is None:
        return None
    tops, levels, skews = list[FloatArray](), list[Level](), list[tuple[float, float]]()
    for octave in octaves(image):
        tops.append(tops_of(octave))
        for level in map(octave.level, CUT_LEVELS):
            levels.append(level)
            # now, for it is still in the cache
            skew = response_skew(level)
            skews += [] if skew is None else [(level.sigma, skew)]
    peak = blob_peak(blobs_of(np.concatenate(tops, axis=1)))
    return None if peak is None else Survey(image, peak, tuple(levels), tuple(skews))


def _middle(image: FloatArray) -> FloatArray:
    top, left = (max(0, (side - SMALL_WINDOW) // 2) for side in image.shape)
    return image[top : top + SMALL_WINDOW, left : left + SMALL_WINDOW]


CLEAR_SHARE = 0.3
"""From this share of the energy at one size, the blobs of a plane have a common size."""

CLEAR_DOMINANCE = 0.5
"""From this dominance of bright over dark blobs, or the reverse, they are not noise."""

SHARP_SHARE = 0.55
"""From this share, parts of another size contradict the blobs; below it, the blobs may be the
bright centres of cells, which are the parts."""

SOME_SHARE = 0.17
"""Below this share, the blobs are ignored, even as supporting evidence."""

AGREE = 1.6
"""Up to this ratio, the two measurements are considered to agree."""

FAR_APART = 3.0
"""Beyond this ratio, parts are not objects around the blobs but clusters of them."""

STEEP = 0.5
"""From this slope, a part has no characteristic size."""

FLAT = 0.3
"""Up to this slope, parts are accepted without the blobs, as cells between walls."""

SKEWED = 0.3
"""The skewness of noise stays below this."""

LARGEST = 0.4
"""Objects must be smaller than this fraction of the shorter side, or too few fit for statistics."""

FEW_CELLS = 8
"""Minimum number of cells between walls."""

How = Literal["blobs and parts", "blobs", "parts", "cells between walls"]


@dataclass(frozen=True)
class ObjectSize:
    """The characteristic object diameter of a plane.

    Parameters
    ----------
    diameter_px : diameter of a disc of the same area as the typical object
    spread : relative uncertainty, such as 0.1 for a tenth
    reliability : 0 to 1; below 0.5 there is only one measurement, or the peak is broad
    how : which measurements it is based on
    """

    diameter_px: float
    spread: float
    reliability: float
    how: How


def object_diameter_px(plane: AnyArray) -> ObjectSize | None:
    """Estimate the characteristic object diameter without any ground truth.

    Two sizes are measured over all scales: the most common size of blobs (extrema of the
    scale-normalised Laplacian, Lindeberg 1998), and the size of the parts between the edges of the
    plane (its zero crossings, Marr and Hildreth 1980) at the blur that suits them.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit

    Returns
    -------
    ObjectSize or None
        None for flat planes, noise, textures, and if the two measurements disagree.

    Raises
    ------
    ValueError
        `plane` is not 2-D.
    """
    scales = survey(plane)
    return None if scales is None else object_size(scales)


def object_size(scales: Survey) -> ObjectSize | None:
    """Determine the object diameter from the measurements of a plane over scales."""
    peak, most = scales.peak, LARGEST * scales.least_side
    clear = (
        peak.share >= CLEAR_SHARE and peak.dominance >= CLEAR_DOMINANCE and peak.diameter_px <= most
    )
    if clear:
        return _with_blobs(peak, scales.parts_near_blobs(most))
    if max((abs(skew) for _, skew in scales.skews), default=0.0) < SKEWED:
        return None
    cells = _cells_between_walls(scales, most)
    if cells is not None or peak.share < SOME_SHARE:
        return cells
    return _parts_alone(peak, scales.parts_near_blobs(most))


def _sharpness(peak: BlobPeak) -> float:
    return min(1.0, peak.share / (2 * CLEAR_SHARE))


def _with_blobs(peak: BlobPeak, part: PartSize | None) -> ObjectSize | None:
    """Weigh clear blobs against the parts nearest to them in size.

    Parts smaller than the blobs are noise or texture; larger ones contradict sharp blobs, but may
    be cells whose bright centres are the blobs. The weights decrease towards a ratio of `AGREE`.
    """
    gap = 2 * log(AGREE) if part is None else log(part.diameter_px / peak.diameter_px)
    near = 1 - abs(gap) / log(AGREE)
    if part is None or (near <= 0 and gap < 0):
        return _blobs_alone(peak)
    if near <= 0:
        return None if peak.share >= SHARP_SHARE else _parts_alone(peak, part)
    for_part = (1.2 - 2 * abs(part.slope)) * (near if gap < 0 else 1)
    for_peak = max(2 * (peak.share - 0.25), 0.1)
    if gap > 0 and peak.share < SHARP_SHARE:
        for_peak *= near
    middle = peak.diameter_px * exp(gap * for_part / (for_part + for_peak))
    reliability = 0.5 + 0.5 * _sharpness(peak) * near
    return ObjectSize(middle, max(0.1, abs(gap) / 2), reliability, "blobs and parts")


def _blobs_alone(peak: BlobPeak) -> ObjectSize:
    return ObjectSize(peak.diameter_px, 0.2, 0.5 * _sharpness(peak), "blobs")


def _parts_alone(peak: BlobPeak, part: PartSize | None) -> ObjectSize | None:
    if part is None or peak.share < SOME_SHARE:
        return None
    if not 1 / AGREE <= part.diameter_px / peak.diameter_px <= FAR_APART:
        return None
    return ObjectSize(part.diameter_px, 0.2, 0.5 - 0.5 * abs(part.slope), "parts")


def _cells_between_walls(scales: Survey, most: float) -> ObjectSize | None:
    """Find many parts of the sign opposite to the stain, such as dark cells with bright walls."""
    stain = max(scales.skews, key=lambda pair: abs(pair[1]))[1]
    cells = [
        part
        for part in scales.parts(-1 if stain > 0 else 1, most)
        if abs(part.slope) <= FLAT and part.parts >= FEW_CELLS
    ]
    if not cells:
        return None
    cell = min(cells, key=lambda part: abs(part.slope))
    return ObjectSize(cell.diameter_px, 0.15, 0.7 - abs(cell.slope), "cells between walls")
