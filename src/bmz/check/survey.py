"""One walk through the scales of a plane, and what size and polarity are told from."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.blobs import BlobPeak, blob_peak, blobs_of
from bmz.check.phases import Cut, PartSize, cuts_of, part_sizes, response_skews
from bmz.check.scale_space import LEAST_SIDE, Octave, octaves, stretched

SMALL_PX = 14.0
"""Below this diameter the parts are measured on the plane at twice its size, too."""

SMALL_WINDOW = 400
"""Side of the middle of the plane that is looked at twice its size, in px."""


@dataclass(frozen=True)
class Survey:
    """What the scales of a plane show.

    Parameters
    ----------
    least_side : the smaller side, in px
    peak : the commonest size of blob
    bright, dark : sizes of the parts of either sign, from fine to coarse
    skews : (sigma in px, skewness of the Laplacian) from fine to coarse
    """

    least_side: int
    peak: BlobPeak
    bright: tuple[PartSize, ...]
    dark: tuple[PartSize, ...]
    skews: tuple[tuple[float, float], ...]

    def parts(self, sign: int) -> tuple[PartSize, ...]:
        """Give the sizes of the bright (1) or the dark (-1) parts."""
        return self.bright if sign > 0 else self.dark


def survey(plane: AnyArray) -> Survey | None:
    """Walk through the scales of a plane; None for one that is flat or below 10 px a side.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    """
    if plane.ndim != 2:  # noqa: PLR2004 - a plane has y and x
        raise ValueError(f"a plane has the axes y and x, this array has {plane.ndim}")
    image = stretched(plane) if min(plane.shape) >= LEAST_SIDE else None
    if image is None:
        return None
    blobs, skews = list[FloatArray](), list[tuple[float, float]]()
    bright, dark = list[Cut](), list[Cut]()
    for octave in octaves(image):
        blobs.append(blobs_of(octave))
        bright += cuts_of(octave, 1)
        dark += cuts_of(octave, -1)
        skews += response_skews(octave)
    peak = blob_peak(blobs)
    if peak is None:
        return None
    if peak.diameter_px < SMALL_PX:
        larger = _enlarged(image)
        bright = [*cuts_of(larger, 1), *bright]
        dark = [*cuts_of(larger, -1), *dark]
    parts = tuple(part_sizes(bright, 1)), tuple(part_sizes(dark, -1))
    return Survey(min(plane.shape), peak, parts[0], parts[1], tuple(skews))


def _enlarged(image: FloatArray) -> Octave:
    top, left = (max(0, (side - SMALL_WINDOW) // 2) for side in image.shape)
    window = image[top : top + SMALL_WINDOW, left : left + SMALL_WINDOW]
    larger = ndi.zoom(window, 2, order=1, mode="nearest", grid_mode=True)
    return next(octaves(larger, first_pixel=0.5))
