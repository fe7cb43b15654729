"""Vary an image in ways that do not change its kind."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

LEAST_SIDE = 64


def variant(array: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Scale, crop, mirror, recolour, blur, add noise, compress and requantise an image.

    Parameters
    ----------
    array : (y, x) or (y, x, 3) any real dtype
    chance : where the choices come from

    Returns
    -------
    (y, x) or (y, x, 3): uint8, uint16 or float32
    """
    image = _unit(array)
    image = _turned(_cropped(_scaled(image, chance), chance), chance)
    if image.ndim == 3:
        image = _recoloured(image, chance)
    image = _toned(image, chance)
    image = _degraded(image, chance)
    if chance.random() < 0.25:
        image = _compressed(image, int(chance.integers(40, 96)))
    return _quantised(image, chance)


def _unit(array: np.ndarray) -> np.ndarray:
    values = array.astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(np.quantile(values, 0.9995))
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _scaled(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    if chance.random() < 0.35:
        return image
    most = min(2.0, 1100 / max(image.shape[:2]))
    least = max(0.5, LEAST_SIDE / min(image.shape[:2]))
    if least >= most:
        return image
    factor = float(np.exp(chance.uniform(np.log(least), np.log(most))))
    planes = np.moveaxis(np.atleast_3d(image), -1, 0)
    if factor < 0.8:
        planes = ndi.gaussian_filter(planes, (0, 0.4 / factor, 0.4 / factor))
    zoomed = np.moveaxis(ndi.zoom(planes, (1, factor, factor), order=1), 0, -1)
    return zoomed if image.ndim == 3 else zoomed[..., 0]


def _cropped(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    if chance.random() < 0.3:
        return image
    parts = []
    for side in image.shape[:2]:
        length = int(max(min(side, 96), side * chance.uniform(0.45, 1)))
        start = int(chance.integers(0, side - length + 1))
        parts.append(slice(start, start + length))
    crop = image[parts[0], parts[1]]
    return crop if np.ptp(crop) > 0.05 else image


def _turned(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    image = np.rot90(image, int(chance.integers(4)))
    return image[:, ::-1] if chance.random() < 0.5 else image


def _recoloured(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    pick = chance.random()
    if pick < 0.3:
        weights = chance.dirichlet((2, 2, 2)).astype(np.float32)
        return image @ weights
    if pick < 0.4:
        return image[..., int(chance.integers(3))]
    gains = np.exp(chance.normal(0, 0.07, 3)).astype(np.float32)
    return np.clip(image * gains, 0, 1)


def _toned(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    if chance.random() < 0.6:
        image = image ** np.float32(np.exp(chance.normal(0, 0.3)))
    if image.ndim == 2 and chance.random() < 0.1:
        image = 1 - image
    if chance.random() < 0.3:
        image = np.clip(image * np.float32(chance.uniform(1, 1.4)), 0, 1)
    low = chance.uniform(0, 0.3) if chance.random() < 0.5 else 0.0
    high = chance.uniform(0.5, 1) if chance.random() < 0.5 else 1.0
    if image.ndim == 3:
        low = 0.0
    return (image * (high - low) + low).astype(np.float32)


def _degraded(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    sides = (1, 1) + (0,) * (image.ndim - 2)
    if chance.random() < 0.3:
        sigma = chance.uniform(0.3, 1.2)
        image = ndi.gaussian_filter(image, [sigma * side for side in sides])
    if chance.random() < 0.3:
        photons = np.exp(chance.uniform(np.log(30), np.log(2000)))
        image = chance.poisson(image * photons) / photons
    if chance.random() < 0.3:
        image = image + chance.normal(0, np.exp(chance.uniform(-6, -3)), image.shape)
    return np.clip(image, 0, 1.2).astype(np.float32)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    memory = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).save(
        memory, "JPEG", quality=quality
    )
    return np.asarray(Image.open(memory)).astype(np.float32) / 255


def _quantised(image: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    pick = chance.random()
    if pick < 0.55:
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if pick < 0.85:
        return (np.clip(image, 0, 1.2) * chance.uniform(1000, 50000)).astype(np.uint16)
    return (image * np.float32(chance.uniform(0.5, 300))).astype(np.float32)
