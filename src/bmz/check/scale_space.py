"""A plane at many blurs: the Laplacian of Gaussian on an octave pyramid, after Lindeberg (1998)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.blur import blurred, laplacian
from bmz.check.sorted_values import percentiles, sorted_finite

LEVELS = 4
"""Blurs an octave; one more on each side lets a maximum over scale be told at every one."""

LEAST_SIDE = 10
"""No octave is made of an image with a side below this, in px."""

MOST_SIDE = 768
"""Of a larger image an octave looks at the window of this side with most in it."""

CAMERA_BLUR = 0.5
"""Blur that any image has when it arrives, in px (Lowe 2004)."""

STENCIL_VARIANCE = 1 / 6
"""The five-point Laplacian blurs by this much itself: its response is w^2 (1 - w^2 / 12)."""

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
    sigmas : (k,) blur of each level, in px of the plane
    blurred : k arrays (y, x) float32
    responses : k arrays (y, x) float32, as in `Level`
    weight : share of the whole plane that this octave stands for, over the share it has seen
    """

    pixel: float
    sigmas: FloatArray
    blurred: tuple[FloatArray, ...]
    responses: tuple[FloatArray, ...]
    weight: float

    def level(self, k: int) -> Level:
        """Give one of its levels, counted from the finest."""
        return Level(self.pixel, float(self.sigmas[k]), self.responses[k])


def stretched(plane: AnyArray, order: AnyArray | None = None) -> FloatArray | None:
    """Bring a plane to about 0 to 1 between its percentiles 0.2 and 99.8; None for a flat one.

    An inverted plane is stretched to the mirror image. Values far outside are cut, so that a hot
    pixel counts like any bright one; NaN and infinite pixels are set to the median.

    Parameters
    ----------
    plane : (y, x) any dtype
    order : its finite values in order, where they are known already

    Returns
    -------
    (y, x) float32, -0.5 to 1.5, or None
    """
    values = np.asarray(plane).astype(np.float32)
    finite = np.isfinite(values)
    complete = bool(finite.all())
    if not finite.any():
        return None
    if order is None or not complete:
        order = sorted_finite(values)
    low, middle, high = percentiles(order, (0.2, 50, 99.8), np.float32)
    if not high > low:
        return None
    if not complete:
        values = np.where(finite, values, np.float32(middle))
    stretch: FloatArray = values - low
    stretch /= high - low
    return np.clip(stretch, -0.5, 1.5, out=stretch).astype(np.float32)


def octaves(plane: FloatArray) -> Iterator[Octave]:
    """Yield octave after octave, each at half the resolution, until the image is too small.

    Parameters
    ----------
    plane : (y, x) float32
    """
    image, blur, pixel = plane, CAMERA_BLUR, 1.0
    while min(image.shape) >= LEAST_SIDE:
        window, weight = _window(image)
        blurs, sigmas = _blurs(window, blur, STEPS), _sigmas(blur)
        responses = tuple(map(_response, blurs, sigmas))
        yield Octave(pixel, sigmas * pixel, blurs, responses, weight)
        if window.shape == image.shape:
            image, blur = np.ascontiguousarray(blurs[LEVELS][::2, ::2]), float(STEPS[LEVELS]) / 2
        else:
            image, blur = _halved(image), max(CAMERA_BLUR, float(np.sqrt(blur**2 + 0.25)) / 2)
        pixel *= 2


def levels_of_enlarged(plane: FloatArray, wanted: Sequence[int], pixel: float) -> Iterator[Level]:
    """Yield levels of the first octave of a plane that was enlarged.

    Parameters
    ----------
    plane : (y, x) float32
    wanted : levels, counted from the finest
    pixel : width of a pixel of `plane` in px of the original, below 1
    """
    blur = CAMERA_BLUR / pixel
    blurs, sigmas = _blurs(plane, blur, STEPS[: max(wanted) + 1]), _sigmas(blur)
    for k in wanted:
        yield Level(pixel, float(sigmas[k]) * pixel, _response(blurs[k], sigmas[k]))


def _blurs(image: FloatArray, blur: float, steps: FloatArray) -> tuple[FloatArray, ...]:
    images = []
    for step in map(float, steps):
        if step > blur:
            image = blurred(image, float(np.sqrt(step**2 - blur**2)))
            blur = step
        images.append(image)
    return tuple(images)


def _sigmas(blur: float) -> FloatArray:
    return np.sqrt(np.maximum(STEPS, blur) ** 2 + STENCIL_VARIANCE)


def _response(image: FloatArray, sigma: float) -> FloatArray:
    return laplacian(image, -(sigma**2))


def _halved(image: FloatArray) -> FloatArray:
    height, width = (side // 2 * 2 for side in image.shape)
    a, b, c, d = (image[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    half: FloatArray = ((a + b) + (c + d)) / 4
    return half


def _window(image: FloatArray) -> tuple[FloatArray, float]:
    """Cut the window with most contrast out of a large image, and say what it stands for."""
    if image.size <= MOST_SIDE**2 * 1.2:
        return image, 1.0
    block = 32
    rows, columns = (side // block for side in image.shape)
    blocks = image[: rows * block, : columns * block].reshape(rows, block, columns, block)
    means = blocks.mean((1, 3), dtype=np.float64)
    contrast = (means - np.median(means)) ** 2
    tall, wide = (min(MOST_SIDE // block, n) for n in contrast.shape)
    total = np.pad(contrast.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = (
        total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    )
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    top, left = row * block, column * block
    weight = float(contrast.sum() / inside.max()) if inside.max() > 0 else 1.0
    return image[top : top + tall * block, left : left + wide * block], weight
