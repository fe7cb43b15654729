"""One walk through the scales of a plane, and what size and polarity are told from."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.blobs import BlobPeak, blob_peak, blobs_of
from bmz.check.blur import doubled
from bmz.check.phases import CUT_LEVELS, PartSize, cut_of, part_sizes, response_skew
from bmz.check.scale_space import LEAST_SIDE, Level, levels_of_enlarged, octaves, stretched

SMALL_PX = 14.0
"""Below this diameter the parts are measured on the plane at twice its size, too."""

SMALL_WINDOW = 400
"""Side of the middle of the plane that is looked at twice its size, in px."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What the scales of a plane show.

    Parameters
    ----------
    least_side : the smaller side, in px
    peak : the commonest size of blob
    levels : responses whose parts are measured, from fine to coarse
    skews : (sigma in px, skewness of the Laplacian) from fine to coarse
    """

    least_side: int
    peak: BlobPeak
    levels: tuple[Level, ...]
    skews: tuple[tuple[float, float], ...]

    def parts(self, sign: int) -> tuple[PartSize, ...]:
        """Measure the bright (1) or the dark (-1) parts, from fine to coarse.

        It takes a third of the time of a survey, and most planes are told from one sign: so it is
        done when it is asked for.
        """
        return tuple(part_sizes([cut_of(level, sign) for level in self.levels], sign))


def survey(plane: AnyArray, order: AnyArray | None = None) -> Survey | None:
    """Walk through the scales of a plane; None for one that is flat or below 10 px a side.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    order : its finite values in order, where they are known already
    """
    if plane.ndim != 2:  # noqa: PLR2004 - a plane has y and x
        raise ValueError(f"a plane has the axes y and x, this array has {plane.ndim}")
    image = stretched(plane, order) if min(plane.shape) >= LEAST_SIDE else None
    if image is None:
        return None
    blobs, levels = list[FloatArray](), list[Level]()
    for octave in octaves(image):
        blobs.append(blobs_of(octave))
        levels += map(octave.level, CUT_LEVELS)
    peak = blob_peak(blobs)
    if peak is None:
        return None
    skews = [(level.sigma, response_skew(level)) for level in levels]
    if peak.diameter_px < SMALL_PX:
        levels = [*levels_of_enlarged(doubled(_middle(image)), CUT_LEVELS, 0.5), *levels]
    known_skews = tuple((sigma, skew) for sigma, skew in skews if skew is not None)
    return Survey(min(plane.shape), peak, tuple(levels), known_skews)


def _middle(image: FloatArray) -> FloatArray:
    top, left = (max(0, (side - SMALL_WINDOW) // 2) for side in image.shape)
    return image[top : top + SMALL_WINDOW, left : left + SMALL_WINDOW]
