"""Detect blobs in a plane over scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.values import dataclass
from bmz.check.blurs import (
    BLOCK,
    blurred,
    gaussian,
    laplacian,
    rows_at_a_time,
    rows_between,
    weighted,
)
from bmz.check.kind_levels import block_means, halved, window_sums
from bmz.check.pixel_values import BEFORE_TO_BEHIND, percentiles, sorted_finite

LEVELS = 4
"""Blurs per octave; one more on each side allows a maximum over scale to be found at each."""

LEAST_SIDE = 10
"""Images with a side below this get no octave, in px."""

LEAST_PX = 3.5
"""Smaller blobs are ignored: noise grain, and artefacts of interpolation."""

FINEST = 1
"""The finest level used of the first octave: the level before it could only yield blobs below
`LEAST_PX`. In the other octaves it is 0."""

SMALL_SIDE = 96
"""Levels of up to this side are blurred by matrix products, which takes fewer calls."""

MOST_SIDE = 640
"""Side of the window of highest contrast that an octave uses of a larger image, in px."""

CAMERA_BLUR = 0.5
"""Blur that any input image is assumed to have, in px (Lowe 2004)."""

STENCIL_VARIANCE = 1 / 6
"""Variance of the blur by the five-point Laplacian itself: its response is w^2 (1 - w^2 / 12)."""

STEPS: FloatArray = 2.0 ** (np.arange(-1, LEVELS + 1) / LEVELS)
"""Blur of each level of an octave, in pixels of the octave."""


@dataclass(frozen=True, eq=False)
class Level:
    """The response at one blur.

    Parameters
    ----------
    pixel : width of a pixel of the response in px of the plane
    sigma : the blur, in px of the plane
    response : (y, x) float32, minus the Laplacian times sigma squared: positive where it is
        brighter than around, and independent of scale (Lindeberg 1998)
    """

    pixel: float
    sigma: float
    response: FloatArray


@dataclass(frozen=True, eq=False)
class Octave:
    """The levels of one octave.

    Parameters
    ----------
    pixel : width of a pixel of this octave in px of the plane
    finest : number of its first level; see `FINEST`
    sigmas : (k,) blur of each level, in px of the plane
    blurred : (k, y, x) float32
    responses : (k, y, x) float32, as in `Level`
    weight : share of the whole plane that this octave represents, over the share that it covers
    """

    pixel: float
    finest: int
    sigmas: FloatArray
    blurred: FloatArray
    responses: FloatArray
    weight: float

    def level(self, number: int) -> Level:
        """Return one of its levels by its index in `STEPS`."""
        k = number - self.finest
        return Level(self.pixel, float(self.sigmas[k]), self.responses[k])


def stretched(plane: AnyArray, order: AnyArray | None = None) -> FloatArray | None:
    """Scale a plane to about 0 to 1 between its percentiles 0.2 and 99.8; None if it is flat.

    An inverted plane is stretched to the inverted result. Values far outside are clipped, so that
    hot pixels count like other bright ones; NaN and infinite pixels are set to the median.

    Parameters
    ----------
    plane : (y, x) any dtype
    order : its finite values in ascending order, if already known

    Returns
    -------
    (y, x) float32, -0.5 to 1.5, or None
    """
    values = np.asarray(plane)
    if values.dtype.kind == "f":
        values = values.astype(np.float32)  # values beyond its range become infinite
        finite = np.isfinite(values)
        complete = bool(finite.all())
        order = order if complete else None
    order = sorted_finite(values) if order is None else order
    if order.size == 0:
        return None
    low, middle, high = percentiles(order, (0.2, 50, 99.8), np.float32)
    if not high > low:
        return None
    if values.dtype.kind == "u" and order[-1] < values.size:  # fewer levels than pixels
        levels = np.arange(int(order[-1]) + 1, dtype=np.float32)
        shown: FloatArray = _between(levels, low, high)[values]
        return shown
    if values.dtype.kind == "f" and not complete:
        values[~finite] = middle
    return _between(values.astype(np.float32, copy=False), low, high)


def _between(values: FloatArray, low: float, high: float) -> FloatArray:
    shares: FloatArray = values - low
    shares /= high - low
    return np.clip(shares, -0.5, 1.5, out=shares).astype(np.float32)


def octaves(plane: FloatArray) -> Iterator[Octave]:
    """Yield octave after octave, each at half the resolution, until the image is too small.

    Parameters
    ----------
    plane : (y, x) float32
    """
    image, blur, pixel, finest = plane, CAMERA_BLUR, 1.0, FINEST
    while min(image.shape) >= LEAST_SIDE:
        window, weight = _window(image)
        blurs, sigmas = _blurs(window, blur, STEPS), _sigmas(blur)[finest:]
        shown = blurs[finest:]
        yield Octave(pixel, finest, sigmas * pixel, shown, _responses(shown, sigmas), weight)
        if window.shape == image.shape:
            image, blur = np.ascontiguousarray(blurs[LEVELS][::2, ::2]), float(STEPS[LEVELS]) / 2
        else:
            image, blur = halved(image), max(CAMERA_BLUR, float(np.sqrt(blur**2 + 0.25)) / 2)
        pixel, finest = 2 * pixel, 0


def levels_of_enlarged(plane: FloatArray, numbers: Sequence[int], pixel: float) -> Iterator[Level]:
    """Yield levels of the first octave of an enlarged plane.

    Parameters
    ----------
    plane : (y, x) float32
    numbers : levels, counted from the finest
    pixel : width of a pixel of `plane` in px of the original, below 1
    """
    blur = CAMERA_BLUR / pixel
    blurs, sigmas = _blurs(plane, blur, STEPS[: max(numbers) + 1]), _sigmas(blur)
    for k in numbers:
        response = laplacian(blurs[k], -(sigmas[k] ** 2))
        yield Level(pixel, float(sigmas[k]) * pixel, response)


def _blurs(image: FloatArray, blur: float, steps: FloatArray) -> FloatArray:
    if max(image.shape) <= SMALL_SIDE:
        down, right = (_blurring(side, blur, len(steps)) for side in image.shape)
        tall = (down.reshape(-1, len(image)) @ image).reshape(len(steps), *image.shape)
        small: FloatArray = tall @ right.transpose(0, 2, 1)
        return small
    images = np.empty((len(steps), *image.shape), np.float32)
    for step, out in zip(map(float, steps), images, strict=True):
        if step > blur:
            blurred(image, float(np.sqrt(step**2 - blur**2)), out=out)
            blur = step
        else:
            out[...] = image
        image = out
    return images


@lru_cache(maxsize=16)  # images of a run are of few sizes
def _blurring(side: int, blur: float, count: int) -> FloatArray:
    """Return the (count, side, side) matrices by which the first steps blur along one axis."""
    parts: list[FloatArray] = [np.eye(side)]
    for step in map(float, STEPS[:count]):
        parts.append(parts[-1])
        if step > blur:
            weights, blur = gaussian(float(np.sqrt(step**2 - blur**2))), step
            reach = len(weights) - 1
            parts[-1] = weighted(rows_between(parts[-1], -reach, side + reach), weights)
    return np.asarray(parts[1:], np.float32)


def _sigmas(blur: float) -> FloatArray:
    return np.sqrt(np.maximum(STEPS, blur) ** 2 + STENCIL_VARIANCE)


TOGETHER = 2 * BLOCK
"""Levels with up to this many pixels in total are computed together, to save calls."""


def _responses(blurs: FloatArray, sigmas: FloatArray) -> FloatArray:
    if blurs.size <= TOGETHER:
        return laplacian(blurs, -(sigmas**2))
    responses = np.empty_like(blurs)
    for image, sigma, out in zip(blurs, sigmas, responses, strict=True):
        laplacian(image, -(sigma**2), out=out)
    return responses


def _window(image: FloatArray) -> tuple[FloatArray, float]:
    """Return the window of highest contrast of a large image, and the weight that it represents."""
    if image.size <= MOST_SIDE**2 * 1.2:
        return image, 1.0
    block = 32
    means = block_means(image, block)
    contrast = (means - np.median(means)).astype(np.float64) ** 2
    tall, wide = (min(MOST_SIDE // block, n) for n in contrast.shape)
    inside = window_sums(contrast, tall, wide)
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    top, left = row * block, column * block
    weight = float(contrast.sum() / inside.max()) if inside.max() > 0 else 1.0
    return image[top : top + tall * block, left : left + wide * block], weight


DIAMETER_OF_SIGMA = 2 * np.sqrt(2)
"""A disc responds most to the Laplacian whose zero crossing is its rim: radius sigma x sqrt 2."""

FAINT = 0.005
"""Blobs weaker than this fraction of the range of the plane are rounding errors."""

FLAT_TOP = 1e-12
"""Minimum curvature of a maximum."""


def tops_of(octave: Octave) -> FloatArray:
    """Return the values at the extrema of both signs over y, x and scale.

    Returns
    -------
    (14, n) float64: for each extremum, the response one level below, at it and one level above;
    its sigma in px; the weight of the octave; and the 3 x 3 pixels of the blurred plane around it
    """
    k, y, x = _tops(octave.responses)
    tops = np.empty((14, len(k)))
    tops[:3] = octave.responses[k + BEFORE_TO_BEHIND, y, x]
    tops[3], tops[4] = octave.sigmas[k], octave.weight
    tops[5:] = _around(octave.blurred, k, y, x).reshape(9, -1)
    return tops


def blobs_of(tops: FloatArray) -> FloatArray:
    """Return the size and energy of blobs.

    The energy of a blob is its response squared, times sigma (between one vote per blob and one
    per pixel), times its roundness, which is 0 for a line (from the Hessian, as in Lowe 2004).

    Parameters
    ----------
    tops : (14, n) results of `tops_of`, for one octave or several

    Returns
    -------
    (n, 2) float64: diameter in px; energy, negative for a dark blob
    """
    below, here, above, sigma, weight = tops[:5]
    sign = np.sign(here)
    shifts = 2.0 ** (_offset(sign * below, sign * here, sign * above) / LEVELS)
    energy = here**2 * sigma * shifts * _roundness(tops[5:].reshape(3, 3, -1)) * weight
    return np.column_stack([DIAMETER_OF_SIGMA * sigma * shifts, sign * energy])


def _tops(responses: FloatArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Find level, y and x of the extrema that are not faint.

    Parameters
    ----------
    responses : (k, y, x); the first and the last level have no extrema
    """
    count, height, width = responses.shape
    together = count if responses.size <= TOGETHER else 1
    rows_px = height if together > 1 else rows_at_a_time(responses[0])
    places = []
    for first in range(0, count - 2, together):
        near = [responses[first + k : min(first + together, count - 2) + k] for k in range(3)]
        for top in range(0, height, rows_px):
            parts = [rows_between(r, top - 1, min(top + rows_px, height) + 1) for r in near]
            places.append(np.flatnonzero(_marked(parts)) + (first * height + top) * width)
    level, place = np.divmod(np.concatenate(places), height * width)
    return level + 1, *np.divmod(place, width)


def _marked(near: Sequence[FloatArray]) -> BoolArray:
    """Return where the middle of three levels has an extremum that is not faint."""
    middle = near[1][:, 1:-1]
    bright: BoolArray = middle == _outermost(near, np.maximum)
    bright &= middle > FAINT
    dark: BoolArray = middle == _outermost(near, np.minimum)
    dark &= middle < -FAINT
    return bright | dark


def _outermost(near: Sequence[FloatArray], outer: np.ufunc) -> FloatArray:
    """Return the extreme value over three levels and 3 x 3 pixels, for all rows but the ends."""
    below, here, above = near
    most: FloatArray = outer(below, above)
    outer(most, here, out=most)
    tall: FloatArray = outer(most[:, 1:-1], most[:, 2:])
    outer(tall, most[:, :-2], out=tall)
    flat, wide = tall.reshape(-1), np.empty_like(tall)
    pairs = outer(flat[1:], flat[:-1])
    outer(pairs[1:], pairs[:-1], out=wide.reshape(-1)[1:-1])
    for edge, beside in ((0, 1), (-1, -2)):
        outer(tall[..., edge], tall[..., beside], out=wide[..., edge])
    return wide


def _around(images: FloatArray, k: AnyArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Return the (3, 3, places) pixels around each position in its image, edges repeated."""
    rows, columns = (
        np.minimum(np.maximum(at + BEFORE_TO_BEHIND, 0), size - 1)
        for at, size in zip((y, x), images.shape[1:], strict=True)
    )
    around: FloatArray = images[k, rows[:, None], columns[None]]
    return around


def _offset(below: FloatArray, here: FloatArray, above: FloatArray) -> FloatArray:
    """Return the maximum of a parabola through three levels, in levels from the middle one."""
    bend = np.minimum(below - 2 * here + above, -FLAT_TOP)
    shift: FloatArray = np.clip(0.5 * (below - above) / bend, -0.5, 0.5)
    return shift


def _roundness(around: FloatArray) -> FloatArray:
    """Return 4 det / trace^2 of the Hessian: 1 for a round blob, 0 for a line or a saddle.

    Parameters
    ----------
    around : (3, 3, places) float64
    """
    p = around
    yy = p[2, 1] + p[0, 1] - 2 * p[1, 1]
    xx = p[1, 2] + p[1, 0] - 2 * p[1, 1]
    yx = (p[2, 2] + p[0, 0] - p[2, 0] - p[0, 2]) / 4
    trace = np.maximum((yy + xx) ** 2, FLAT_TOP**2)
    return np.asarray(np.clip(4 * (yy * xx - yx**2) / trace, 0, 1))
