"""Blobs of a plane, each with the scale at which it answers most, and their commonest diameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
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
    for k in range(1, LEVELS + 1):
        near = octave.responses[k - 1 : k + 2]
        y, x = _tops(near)
        sign = np.sign(near[1][y, x])
        below, here, above = (sign * response[y, x].astype(float) for response in near)
        sigma = octave.sigmas[k] * 2.0 ** (_offset(below, here, above) / LEVELS)
        energy = here**2 * sigma * _roundness(octave.blurred[k], y, x) * octave.weight
        found.append(np.column_stack([DIAMETER_OF_SIGMA * sigma, sign * energy]))
    return np.concatenate(found)


def _tops(near: Sequence[FloatArray]) -> tuple[AnyArray, AnyArray]:
    """Find y and x where the middle of three levels is as far out as all around, and not faint."""
    here = near[1]
    bright: BoolArray = here == _outermost(near, np.maximum)
    bright &= here > FAINT
    dark: BoolArray = here == _outermost(near, np.minimum)
    dark &= here < -FAINT
    # NumPy finds a few marks in a flat array several times as fast
    y, x = np.divmod(np.flatnonzero(bright | dark), here.shape[1])
    return y, x


def _outermost(near: Sequence[FloatArray], outer: np.ufunc) -> FloatArray:
    """Give the outermost value of three levels and 3 x 3 pixels around each."""
    below, here, above = near
    most: FloatArray = outer(below, above)
    outer(most, here, out=most)
    tall, wide = np.empty_like(most), np.empty_like(most)
    tall[0] = most[0]
    outer(most[1:], most[:-1], out=tall[1:])
    outer(tall[:-1], most[1:], out=tall[:-1])
    wide[:, 0] = tall[:, 0]
    outer(tall[:, 1:], tall[:, :-1], out=wide[:, 1:])
    outer(wide[:, :-1], tall[:, 1:], out=wide[:, :-1])
    return wide


def _around(image: FloatArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Give the 3 x 3 pixels around each place, the edge repeated, as (3, 3, places)."""
    rows, columns = (
        np.stack([np.maximum(at - 1, 0), at, np.minimum(at + 1, size - 1)])
        for at, size in zip((y, x), image.shape, strict=True)
    )
    around: FloatArray = image[rows[:, None], columns[None]]
    return around


def _offset(below: FloatArray, here: FloatArray, above: FloatArray) -> FloatArray:
    """Place the top of a parabola through three levels, in levels from the middle one."""
    bend = np.minimum(below - 2 * here + above, -FLAT_TOP)
    shift: FloatArray = np.clip(0.5 * (below - above) / bend, -0.5, 0.5)
    return shift


def _roundness(image: FloatArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Give 4 det / trace^2 of the Hessian: 1 for a round blob, 0 for a line or a saddle."""
    p = _around(image, y, x).astype(np.float64)
    yy = p[2, 1] + p[0, 1] - 2 * p[1, 1]
    xx = p[1, 2] + p[1, 0] - 2 * p[1, 1]
    yx = (p[2, 2] + p[0, 0] - p[2, 0] - p[0, 2]) / 4
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
