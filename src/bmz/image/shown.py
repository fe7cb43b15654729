"""TIFF whose numbers are not the brightness that they show: palettes, and white stored as 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from tifffile import TiffFile, TiffPageSeries

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.image.npy import Stored

WHITE_IS_ZERO, INDEXED = 0, 3
"""TIFF 6.0, PhotometricInterpretation."""

_BYTE = 256
_LUMA = (0.299, 0.587, 0.114)
"""Rec. ITU-R BT.601: how bright red, green and blue look."""

_MICROSCOPES = ("lsm", "imagej", "ome", "stk", "fluoview", "micromanager", "mmstack", "nih")
"""Writers, by tifffile's flags, whose palettes colour intensities on the screen."""


def lut_of(tif: TiffFile, series: TiffPageSeries) -> AnyArray | None:
    """Give the colours of an image whose numbers stand for colours; None where they do not.

    A palette that grows brighter from number to number colours intensities, as lookup tables of
    microscopists do, and so does any palette of a microscopist's program.

    Returns
    -------
    (n, 3) uint8, or (n,) where every colour is grey
    """
    page = series.keyframe
    if page.photometric != INDEXED or page.colormap is None or tif.flags & set(_MICROSCOPES):
        return None
    colours = np.asarray(page.colormap).T
    # of 16 bits (TIFF 6.0, ColorMap); some writers put 8 bits into them
    colours = (colours if colours.max() < _BYTE else colours // (_BYTE + 1)).astype(np.uint8)
    if np.all(np.diff(colours @ np.array(_LUMA)) >= 0):
        return None
    grey = np.all(colours == colours[:, :1])
    lut: AnyArray = colours[:, 0] if grey else colours
    return lut


def as_shown(stored: Stored, tif: TiffFile, series: TiffPageSeries) -> Stored:
    """Give regions of an image as it is meant to be seen; the same object where it is stored so."""
    lut = lut_of(tif, series)
    if lut is not None:
        return _Coloured(stored, lut)
    return _Inverted(stored) if _is_inverted(series) else stored


def stored_otherwise(series: TiffPageSeries) -> tuple[str, ...]:
    """Say in a sentence that white is stored as 0."""
    return ("white is stored as 0: intensities are inverted",) if _is_inverted(series) else ()


def _is_inverted(series: TiffPageSeries) -> bool:
    return series.keyframe.photometric == WHITE_IS_ZERO and series.dtype.kind in "bu"


class _Coloured:
    """Regions of an image with a palette, in its colours."""

    def __init__(self, stored: Stored, lut: AnyArray) -> None:
        self._stored, self._lut = stored, lut
        self.shape: tuple[int, ...] = (*stored.shape, *lut.shape[1:])
        self.dtype: np.dtype[Any] = lut.dtype

    def __getitem__(self, box: Box, /) -> AnyArray:
        inner = len(self._stored.shape)
        colours = self._lut[np.asarray(self._stored[box[:inner]])]
        return np.asarray(colours[..., *box[inner:]])


class _Inverted:
    """Regions of an image of which white is stored as 0."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.shape: tuple[int, ...] = tuple(stored.shape)
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype).newbyteorder("=")

    def __getitem__(self, box: Box, /) -> AnyArray:
        inverted: AnyArray = np.invert(np.asarray(self._stored[box]).astype(self.dtype, copy=False))
        return inverted
