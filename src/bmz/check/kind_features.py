"""Compute the features from which the kind of an image is determined."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass
from bmz.check.kind_classifier import kind_classifier
from bmz.check.kind_greys import (
    colour_features,
    flat_features,
    grey_features,
    is_grey,
)
from bmz.check.kind_levels import fullest_window, halved, plane_level
from bmz.check.kind_network import network_features
from bmz.check.kind_texture import texture_features
from bmz.check.pixel_values import FEW_BYTES, percentiles, sorted_finite

WINDOW_PX = 1024
"""Side of the window of highest contrast that is examined in larger planes, px."""

LEAST_PX = 12
"""Planes with a smaller side get no features."""

STRETCH_PX = 60_000
"""In larger images, about this many pixels determine how the image is stretched."""

ORDERED_PX = 40_000
"""In larger images, about this many pixels determine the distribution of grey levels."""

UNLIKE_WARNING = 1.0
"""From this unlikeness, two images are hardly of one kind: 2 % of such pairs exceed it."""

UNLIKE_NOTE = 0.75
"""From this unlikeness, two images may be of different kinds."""


def features(plane: AnyArray) -> FloatArray | None:
    """Compute the features of a plane or a colour image.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit

    Returns
    -------
    (n,) float32, or None if the image is flat, not finite or has a side below 12 px: features of
        the grey levels, of the colours (NaN for a grey image), and of a network.
    """
    shown = _shown(plane)
    stretched = _stretched(shown)
    by_hand = _measured(shown, stretched)
    return None if by_hand is None else np.concatenate([by_hand, _seen(shown, stretched)])


def measured_features(plane: AnyArray) -> FloatArray | None:
    """Compute the handcrafted features of a plane or a colour image, the first of `features`.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit
    """
    shown = _shown(plane)
    return _measured(shown, _stretched(shown))


def seen_features(plane: AnyArray) -> FloatArray:
    """Compute the network's features of a plane or a colour image, the last of `features`.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit; one that is flat except for a few pixels
        is treated as black
    """
    shown = _shown(plane)
    return _seen(shown, _stretched(shown))


def _shown(plane: AnyArray) -> AnyArray:
    """Return a colour image with equal channels as (y, x), and all others unchanged."""
    is_colour = plane.ndim == 3 and not is_grey(plane)  # noqa: PLR2004
    return plane if is_colour else _grey(plane)


def _measured(shown: AnyArray, stretched: Stretched | None) -> FloatArray | None:
    greys = _grey(shown)
    if min(greys.shape) < LEAST_PX:
        return None
    raw = fullest_window(greys, WINDOW_PX)
    window = stretched if raw is shown else _stretched(raw)
    if window is None:
        return None
    colours = colour_features(shown) if shown is not greys else np.full(_COLOURS, np.nan)
    return np.concatenate([_grey_features(raw, window), colours]).astype(np.float32)


def _seen(shown: AnyArray, stretched: Stretched | None) -> FloatArray:
    if stretched is None:
        return network_features(np.zeros(shown.shape, np.float32))
    return network_features(stretched.image)


def _grey(plane: AnyArray) -> AnyArray:
    return plane.mean(-1, dtype=np.float32) if plane.ndim == 3 else plane  # noqa: PLR2004


def unlikeness(one: FloatArray, other: FloatArray) -> float:
    """Return the distance between two images, 0 for equal ones.

    It is the distance in a discriminant analysis (Fisher 1936) of the network's features:
    differences that occur between images of one kind count little. Its unit is chosen so that 2 %
    of the pairs of images of one kind, from any sources, have a distance above 1.

    Parameters
    ----------
    one, other : results of `features`
    """
    classifier = kind_classifier()
    return float(np.linalg.norm(classifier.place(one) - classifier.place(other)))


_COLOURS = len(colour_features(np.zeros((2, 2, 3))))


def _grey_features(raw: AnyArray, stretched: Stretched) -> FloatArray:
    return np.concatenate(
        [
            grey_features(_ordered(raw, stretched)),
            flat_features(raw, stretched.low, stretched.high),
            _texture(stretched.image),
        ]
    ).astype(np.float32)


def _texture(image: FloatArray) -> FloatArray:
    """Describe texture at half the resolution, where it is most informative.

    At full resolution it is that of the camera; at coarser ones the network sees the same.
    """
    half = halved(image) if min(image.shape) >= 2 * LEAST_PX else image
    level = plane_level(fullest_window(half))
    return texture_features(level, plane_level(halved(level.image)))


@dataclass(frozen=True, eq=False)
class Stretched:
    """A plane or a colour image that was scaled to about 0 to 1.

    Parameters
    ----------
    image : float32, -0.5 to 1.5
    low, high : percentiles 0.2 and 99.8 of some pixels, which became 0 and 1
    order : values of these pixels in ascending order, before the stretch
    """

    image: FloatArray
    low: float
    high: float
    order: AnyArray


def _stretched(raw: AnyArray) -> Stretched | None:
    """Stretch a plane or a colour image; return None if it is flat or not finite."""
    values = raw.astype(np.float32)
    order = sorted_finite(_some_of(raw if _has_few_levels(raw) else values, STRETCH_PX))
    if order.size == 0:
        return None
    low, middle, high = map(float, percentiles(order, (0.2, 50, 99.8), np.float32))
    if not high > low:
        return None
    finite = np.isfinite(values) if raw.dtype.kind == "f" else None
    image = _between(values, low, high)
    if finite is not None and not finite.all():
        np.copyto(image, np.float32((middle - low) / (high - low)), where=~finite)
    return Stretched(image, low, high, order)


def _between(values: FloatArray, low: float, high: float) -> FloatArray:
    """Scale `low` to 0 and `high` to 1, in place."""
    values -= np.float32(low)
    values /= np.float32(high - low)
    return np.clip(values, -0.5, 1.5, out=values)


def _some_of(plane: AnyArray, count: int) -> AnyArray:
    """Return every n-th row and column, so that about `count` values are left."""
    step = _step(plane, count)
    return plane[::step, ::step]


def _step(plane: AnyArray, count: int) -> int:
    return max(1, int(np.sqrt(plane.size / count)))


def _has_few_levels(raw: AnyArray) -> bool:
    """Return whether NumPy radix-sorts the values, in a tenth of the time it takes for floats."""
    return raw.dtype.kind in "biu" and raw.itemsize <= FEW_BYTES


def _ordered(raw: AnyArray, stretched: Stretched) -> FloatArray:
    """Return some values of a stretched plane in ascending order."""
    if not _has_few_levels(raw):
        return np.sort(_some_of(stretched.image, ORDERED_PX), axis=None)
    is_known = _step(raw, ORDERED_PX) == _step(raw, STRETCH_PX)
    order = stretched.order if is_known else sorted_finite(_some_of(raw, ORDERED_PX))
    return _between(order.astype(np.float32), stretched.low, stretched.high)
