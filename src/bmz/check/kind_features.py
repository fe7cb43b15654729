"""The numbers from which the kind of an image is told."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind_classifier import kind_classifier
from bmz.check.kind_colours import colour_features, is_grey
from bmz.check.kind_greys import flat_features, grey_features, noise_features, part_features
from bmz.check.kind_levels import LEAST_PX, PlaneLevel, fullest_window, plane_levels
from bmz.check.kind_network import network_features
from bmz.check.kind_texture import texture_features

WINDOW_PX = 1024
"""Of a larger plane the window of this side with most contrast is looked at."""

PARTS_PX = 200
"""Parts are looked at in the finest level whose longer side is at most this."""

FIXED = 5
"""So many levels are described by their resolution; a missing coarse one as the last there is."""

ALIGNED = (-1, 0, 1)
"""Levels described by their place to the one with most contrast."""


UNLIKE_WARNING = 1.0
"""From this unlikeness on two images are hardly of one kind: two in a hundred such pairs are."""

UNLIKE_NOTE = 0.75
"""From this unlikeness on two images may be of different kinds."""


def features(plane: AnyArray) -> FloatArray | None:
    """Describe a plane or a colour image by numbers.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit

    Returns
    -------
    (n,) float32, or None for one that is flat, not finite or below 12 px a side: what is measured
        of the greys, then of the colours (NaN for a grey image), then what a network sees.
    """
    by_hand = measured_features(plane)
    return None if by_hand is None else np.concatenate([by_hand, seen_features(plane)])


def measured_features(plane: AnyArray) -> FloatArray | None:
    """Describe a plane or a colour image by numbers made by hand, the first of `features`.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit
    """
    colour = plane.ndim == 3 and not is_grey(plane)  # noqa: PLR2004
    greys = grey_image_features(_grey(plane))
    if greys is None:
        return None
    colours = colour_features(plane) if colour else np.full(_COLOURS, np.nan)
    return np.concatenate([greys, colours]).astype(np.float32)


def seen_features(plane: AnyArray) -> FloatArray:
    """Describe a plane or a colour image by what a network sees in it, the last of `features`.

    Parameters
    ----------
    plane : (y, x) or (y, x, 3) any real dtype and unit; one that is flat but for a few pixels is
        seen as black
    """
    colour = plane.ndim == 3 and not is_grey(plane)  # noqa: PLR2004
    shown = plane if colour else _grey(plane)
    image, _ = _stretched(shown)
    return network_features(np.zeros(shown.shape, np.float32) if image is None else image)


def _grey(plane: AnyArray) -> AnyArray:
    return plane.mean(-1, dtype=np.float32) if plane.ndim == 3 else plane  # noqa: PLR2004


def unlikeness(one: FloatArray, other: FloatArray) -> float:
    """Tell how far apart two images lie, 0 for the same.

    The distance is that of a discriminant analysis (Fisher 1936): differences that occur between
    images of one kind count little. Its unit is chosen so that 2 % of the pairs of images of one
    kind, of any sources, lie farther apart than 1. It looks at what the network sees.

    Parameters
    ----------
    one, other : as `features` gives them
    """
    classifier = kind_classifier()
    return float(np.linalg.norm(classifier.place(one) - classifier.place(other)))


_COLOURS = len(colour_features(np.zeros((2, 2, 3))))


def grey_image_features(plane: AnyArray) -> FloatArray | None:
    """Describe a plane by numbers, as `features` does.

    Parameters
    ----------
    plane : (y, x) any real dtype and unit
    """
    if min(plane.shape) < LEAST_PX:
        return None
    raw = fullest_window(plane, WINDOW_PX)
    image, ends = _stretched(raw)
    if image is None:
        return None
    levels = list(plane_levels(image))
    textures = [texture_features(level) for level in levels]
    contrasts = np.array([float(level.band.std()) for level in levels])
    peak = int(contrasts.argmax())
    fixed = [textures[min(k, len(levels) - 1)] for k in range(FIXED)]
    aligned = [textures[min(max(peak + k, 0), len(levels) - 1)] for k in ALIGNED]
    steps = np.log(contrasts + 1e-4)[np.minimum(np.arange(FIXED + 1), len(levels) - 1)]
    return np.concatenate(
        [
            grey_features(image),
            flat_features(raw, ends),
            noise_features(levels[0]),
            part_features(_coarse(levels)),
            [peak],
            steps,
            *fixed,
            *aligned,
        ]
    ).astype(np.float32)


def _coarse(levels: list[PlaneLevel]) -> PlaneLevel:
    """Choose the finest level that is small enough to look at parts."""
    return next((level for level in levels if max(level.image.shape) <= PARTS_PX), levels[-1])


def _stretched(raw: AnyArray) -> tuple[FloatArray | None, FloatArray]:
    """Bring a plane to about 0 to 1 between its percentiles 0.2 and 99.8; those, too."""
    values = raw.astype(np.float32)
    step = max(1, int(np.sqrt(values.size / 60_000)))
    some = values[::step, ::step]
    some = some[np.isfinite(some)]
    if some.size == 0:
        return None, np.zeros(2)
    low, high = (float(v) for v in np.quantile(some, [0.002, 0.998]))
    if not high > low:
        return None, np.zeros(2)
    image = (values - np.float32(low)) / np.float32(high - low)
    middle = np.float32((np.median(some) - low) / (high - low))
    image = np.where(np.isfinite(image), image, middle)
    return np.clip(image, -0.5, 1.5), np.array([low, high])
