"""Features of the colours of an image."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind_texture import TINY

HUES = 6
"""Bins of hue: red, yellow, green, cyan, blue, magenta."""

GREY = 0.02
"""Below this mean difference of channels, as a share of the range, an image is grey."""

SAMPLE = 10_000
"""About so many pixels are looked at."""


def is_grey(image: AnyArray) -> bool:
    """Tell whether the channels of a colour image are alike, as in a grey image saved as colour.

    Parameters
    ----------
    image : (y, x, 3) any real dtype
    """
    colours = _colours(image)
    return float(np.ptp(colours, axis=1).mean()) < GREY


def colour_features(image: AnyArray) -> FloatArray:
    """Describe colours: saturation, hues, correlation of channels and stains.

    Parameters
    ----------
    image : (y, x, 3) any real dtype

    Returns
    -------
    (n,) float64
    """
    colours = _colours(image)
    most, least = colours.max(1), colours.min(1)
    chroma = most - least
    saturation = chroma / (most + 0.05)
    density = -np.log(np.clip(colours, 0.02, 1))
    return np.concatenate(
        [
            np.quantile(saturation, [0.1, 0.5, 0.9]),
            np.quantile(chroma, [0.1, 0.5, 0.9, 0.99]),
            [float((least > 0.75).mean()), float((most < 0.15).mean())],  # noqa: PLR2004
            _hues(colours, most, chroma),
            np.log(colours.mean(0) + 0.02) - np.log(colours.mean() + 0.02),
            np.log(colours.std(0) + 0.02) - np.log(colours.std() + 0.02),
            np.log(density.mean(0) + 0.02) - np.log(density.mean() + 0.02),
            _links(colours),
            _stains(density),
        ]
    )


def _colours(image: AnyArray) -> FloatArray:
    """Give some pixels, (n, 3) float64, about 0 to 1."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE)))
    values = np.asarray(image)[::step, ::step, :3].reshape(-1, 3).astype(np.float64)
    values = values[np.isfinite(values).all(1)]
    top = np.quantile(values, 0.998) if values.size else 0.0
    return np.clip(values / top, 0, 1) if top > 0 else np.zeros((1, 3))


def _hues(colours: FloatArray, most: FloatArray, chroma: FloatArray) -> FloatArray:
    """Give the share of the chroma in each bin of hue, and how one-sided hue is."""
    red, green, blue = colours.T
    safe = chroma + TINY
    hue = np.where(
        most == red,
        (green - blue) / safe,
        np.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    bins = np.floor(hue + 0.5).astype(int) % HUES
    total = float(chroma.sum()) + TINY
    shares = np.bincount(bins, chroma, minlength=HUES) / total
    turn = np.abs((chroma * np.exp(1j * hue * np.pi / 3)).sum()) / total
    return np.append(np.sqrt(shares), turn)


def _links(colours: FloatArray) -> FloatArray:
    deviations = colours - colours.mean(0)
    power = np.sqrt((deviations**2).mean(0)) + 1e-3
    table = (deviations.T @ deviations) / len(colours) / np.outer(power, power)
    return np.array([table[0, 1], table[0, 2], table[1, 2]])


def _stains(density: FloatArray) -> FloatArray:
    """Give the main direction of optical density, and how much lies beside it.

    Source: Macenko et al. 2009, who find stains in the plane of the two main directions.
    """
    dense = density[density.sum(1) > 0.3]  # noqa: PLR2004 - the slide itself says nothing
    if len(dense) < 10:  # noqa: PLR2004
        return np.array([0.577, 0.577, 0.577, 0.0, 0.0])
    values, vectors = np.linalg.eigh(dense.T @ dense / len(dense))
    main = np.abs(vectors[:, 2])
    return np.array([*main, *(np.sqrt(np.maximum(values[:2], 0) / (values[2] + TINY)))])
