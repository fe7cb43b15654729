"""Write images with given metadata, and change the size of pixels and objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage as ndi

Plane = NDArray[Any]


def as_plain(path: Path, pixels: Plane) -> Path:
    """Write a TIFF without metadata."""
    tifffile.imwrite(path, pixels, metadata=None)
    return path


def as_imagej(
    path: Path,
    pixels: Plane,
    axes: str,
    pixel_um: float | None = None,
    *,
    names: Sequence[str] = (),
) -> Path:
    """Write an ImageJ TIFF.

    Parameters
    ----------
    axes : letters of tifffile
    pixel_um : its unit is written as ``um``; None for no pixel size
    names : of the channels
    """
    words: dict[str, Any] = {"axes": axes}
    if pixel_um is not None:
        words["unit"] = "um"
    if names:
        words["Labels"] = list(names)
    resolution = None if pixel_um is None else (1 / pixel_um, 1 / pixel_um)
    tifffile.imwrite(path, pixels, imagej=True, metadata=words, resolution=resolution)
    return path


def as_ome(path: Path, pixels: Plane, pixel: float, unit: str) -> Path:
    """Write a plane as OME-TIFF with a pixel size in a unit."""
    words = {
        "axes": "YX",
        "PhysicalSizeX": pixel,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": pixel,
        "PhysicalSizeYUnit": unit,
    }
    tifffile.imwrite(path, pixels, ome=True, metadata=words)
    return path


def resampled(image: Plane, factor: float) -> Plane:
    """Give (..., y, x) with `factor` times as many pixels along y and x, same dtype.

    Pixels are averaged when there are fewer of them, as a camera with larger pixels does.
    """
    if factor < 1:
        n = round(1 / factor)
        height, width = (side // n * n for side in image.shape[-2:])
        cut = image[..., :height, :width].astype(np.float64)
        blocks = cut.reshape(*image.shape[:-2], height // n, n, width // n, n)
        smaller: Plane = np.rint(blocks.mean(axis=(-3, -1))).astype(image.dtype)
        return smaller
    zoom = (*[1.0] * (image.ndim - 2), factor, factor)
    larger: Plane = ndi.zoom(image, zoom, order=1, mode="nearest", grid_mode=True)
    return larger


def mask_diameter_px(mask: Plane) -> float:
    """Give the median diameter of the labels, as that of discs of the same area."""
    areas = np.bincount(mask.ravel())[1:]
    return float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi)))
