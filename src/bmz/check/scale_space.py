"""A plane at many blurs: the Laplacian of Gaussian on an octave pyramid, after Lindeberg (1998)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from bmz.base.arrays import AnyArray, FloatArray

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


@dataclass(frozen=True)
class Octave:
    """The levels of one octave.

    Parameters
    ----------
    pixel : width of a pixel of this octave in px of the plane
    sigmas : (k,) blur of each level, in px of the plane
    blurred : k arrays (y, x) float32
    responses : k arrays (y, x) float32, minus the Laplacian times sigma squared: positive where
        it is brighter than around, and independent of scale (Lindeberg 1998)
    weight : share of the whole plane that this octave stands for, over the share it has seen
    """

    pixel: float
    sigmas: FloatArray
    blurred: tuple[FloatArray, ...]
    responses: tuple[FloatArray, ...]
    weight: float


def stretched(plane: AnyArray) -> FloatArray | None:
    """Bring a plane to about 0 to 1 between its percentiles 0.2 and 99.8; None for a flat one.

    An inverted plane is stretched to the mirror image. Values far outside are cut, so that a hot
    pixel counts like any bright one; NaN and infinite pixels are set to the median.

    Parameters
    ----------
    plane : (y, x) any dtype

    Returns
    -------
    (y, x) float32, -0.5 to 1.5, or None
    """
    values = np.asarray(plane).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    low, middle, high = np.percentile(values[finite], [0.2, 50, 99.8])
    if not high > low:
        return None
    if not finite.all():
        values = np.where(finite, values, np.float32(middle))
    stretch: FloatArray = np.clip((values - low) / (high - low), -0.5, 1.5).astype(np.float32)
    return stretch


def octaves(plane: FloatArray, *, first_pixel: float = 1.0) -> Iterator[Octave]:
    """Yield octave after octave, each at half the resolution, until the image is too small.

    Parameters
    ----------
    plane : (y, x) float32
    first_pixel : width of a pixel of `plane`, when it was resized, in px of the original
    """
    image, blur, pixel = plane, CAMERA_BLUR / min(first_pixel, 1.0), first_pixel
    steps = 2.0 ** (np.arange(-1, LEVELS + 1) / LEVELS)
    while min(image.shape) >= LEAST_SIDE:
        seen, weight = _window(image)
        blurred = _blurs(seen, blur, steps)
        sigmas = np.sqrt(np.maximum(steps, blur) ** 2 + STENCIL_VARIANCE)
        responses = tuple(
            (-(s**2) * laplacian(b)).astype(np.float32)
            for s, b in zip(sigmas, blurred, strict=True)
        )
        yield Octave(pixel, sigmas * pixel, blurred, responses, weight)
        if seen.shape == image.shape:
            image, blur = np.ascontiguousarray(blurred[LEVELS][::2, ::2]), float(steps[LEVELS]) / 2
        else:
            image, blur = _halved(image), max(CAMERA_BLUR, float(np.sqrt(blur**2 + 0.25)) / 2)
        pixel *= 2


def _blurs(image: FloatArray, blur: float, steps: FloatArray) -> tuple[FloatArray, ...]:
    blurred = []
    for step in map(float, steps):
        if step > blur:
            more = float(np.sqrt(step**2 - blur**2))
            image = ndi.gaussian_filter(image, more, truncate=2.6, mode="nearest")
            blur = step
        blurred.append(image)
    return tuple(blurred)


def laplacian(image: FloatArray) -> FloatArray:
    """Give the five-point Laplacian, the edge repeated; shape and dtype stay."""
    p = np.pad(image, 1, mode="edge")
    sides: FloatArray = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]
    return sides - 4 * image


def _halved(image: FloatArray) -> FloatArray:
    height, width = (side // 2 * 2 for side in image.shape)
    boxes = image[:height, :width].reshape(height // 2, 2, width // 2, 2)
    half: FloatArray = boxes.mean((1, 3), dtype=np.float32)
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
