"""Blobs of a plane, each with the scale at which it answers most, and their commonest diameter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.scale_space import LEVELS, Octave

DIAMETER_OF_SIGMA = 2 * np.sqrt(2)
"""A disc answers most to the Laplacian whose zero crossing is its rim: radius sigma x sqrt 2."""

BIN = 0.05
"""Width of a bin of the size spectrum, in octaves."""

FAINT = 0.005
"""Weaker blobs than this share of the range of the plane are rounding."""

FLAT_TOP = 1e-12
"""A top bends at least this much."""

LEAST_PX = 3.5
"""Smaller blobs are left out: the grain of noise, and kinks of an interpolation."""

SIZES = np.arange(0.5, 9.5, BIN)
"""Bins of the size spectrum: log2 of the diameter in px."""

SMOOTHING = 0.35
"""Blur of the size spectrum, in octaves."""


@dataclass(frozen=True)
class BlobPeak:
    """The commonest size of blob.

    Parameters
    ----------
    diameter_px : its diameter
    sign : 1 for bright blobs, -1 for dark ones
    dominance : how far this sign outweighs the other at that size, 0 to 1
    share : energy within about an octave of that size, of all energy of either sign, 0 to 1
    """

    diameter_px: float
    sign: int
    dominance: float
    share: float


def blobs_of(octave: Octave) -> FloatArray:
    """Find the maxima over y, x and scale of both signs.

    The energy of a blob is its response squared, times sigma (between one vote a blob and one
    vote a pixel), times its roundness, which is 0 for a line (from the Hessian, as Lowe 2004).

    Returns
    -------
    (n, 2) float64: diameter in px; energy, negative for a dark blob
    """
    found = []
    for sign in (1, -1):
        signed = [sign * response for response in octave.responses]
        tops = [_most_around(response) for response in signed]
        for k in range(1, LEVELS + 1):
            top = np.maximum(np.maximum(tops[k - 1], tops[k]), tops[k + 1])
            y, x = np.nonzero((signed[k] >= top) & (signed[k] > FAINT))
            below, here, above = (signed[i][y, x].astype(float) for i in (k - 1, k, k + 1))
            sigma = octave.sigmas[k] * 2.0 ** (_offset(below, here, above) / LEVELS)
            energy = here**2 * sigma * _roundness(octave.blurred[k], y, x) * octave.weight
            found.append(np.column_stack([DIAMETER_OF_SIGMA * sigma, sign * energy]))
    return np.concatenate(found)


def _most_around(a: FloatArray) -> FloatArray:
    p = np.pad(a, 1, mode="edge")
    rows = np.maximum(np.maximum(p[:-2], p[1:-1]), p[2:])
    most: FloatArray = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return most


def _offset(below: FloatArray, here: FloatArray, above: FloatArray) -> FloatArray:
    """Place the top of a parabola through three levels, in levels from the middle one."""
    bend = np.minimum(below - 2 * here + above, -FLAT_TOP)
    shift: FloatArray = np.clip(0.5 * (below - above) / bend, -0.5, 0.5)
    return shift


def _roundness(image: FloatArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Give 4 det / trace^2 of the Hessian: 1 for a round blob, 0 for a line or a saddle."""
    p = np.pad(image.astype(np.float64), 1, mode="edge")
    y, x = y + 1, x + 1
    centre = p[y, x]
    yy = p[y + 1, x] + p[y - 1, x] - 2 * centre
    xx = p[y, x + 1] + p[y, x - 1] - 2 * centre
    yx = (p[y + 1, x + 1] + p[y - 1, x - 1] - p[y + 1, x - 1] - p[y - 1, x + 1]) / 4
    trace = np.maximum((yy + xx) ** 2, FLAT_TOP**2)
    roundness: FloatArray = np.clip(4 * (yy * xx - yx**2) / trace, 0, 1)
    return roundness


def blob_peak(blobs: Iterable[FloatArray]) -> BlobPeak | None:
    """Find the size at which blobs of one sign outweigh those of the other most.

    Noise makes as many bright blobs as dark ones, so it drops out of the difference.
    """
    table = np.concatenate([np.zeros((0, 2)), *blobs])
    table = table[table[:, 0] >= LEAST_PX]
    bright, dark = (_spectrum(table[sign * table[:, 1] > 0]) for sign in (1, -1))
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


def _spectrum(blobs: FloatArray) -> FloatArray:
    edges = np.append(SIZES, SIZES[-1] + BIN) - BIN / 2
    energy, _ = np.histogram(np.log2(blobs[:, 0]), bins=edges, weights=np.abs(blobs[:, 1]))
    smooth: FloatArray = ndi.gaussian_filter1d(energy, SMOOTHING / BIN, mode="constant")
    return smooth
