"""The reader of each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from bmz.base.arrays import AnyArray
from bmz.image.hdf5 import hdf5_header, hdf5_opened, hdf5_pixels
from bmz.image.info import Header
from bmz.image.known_formats import HDF5, OME_ZARR
from bmz.image.microscopes import LIBRARIES, plugin_header, plugin_opened, plugin_pixels
from bmz.image.npy import (
    Reader,
    Stored,
    cellpose_masks,
    npy_header,
    npy_mapped,
    npy_pixels,
    npz_header,
    npz_opened,
    npz_pixels,
)
from bmz.image.ome_zarr import zarr_header, zarr_opened, zarr_pixels
from bmz.image.pictures import jpeg_header, jpeg_pixels, png_header, png_palette_numbers, png_pixels
from bmz.image.tiff import (
    tiff_header,
    tiff_is_lossy,
    tiff_opened,
    tiff_palette_numbers,
    tiff_pixels,
)


def _one_image(
    header: Callable[[Path], Header],
    pixels: Callable[[Path], AnyArray],
    stored: Callable[[Path], AnyArray],
) -> Reader:
    @contextmanager
    def opened(path: Path, _series: int) -> Iterator[Stored]:
        yield stored(path)

    return Reader(
        header=lambda path, _: header(path),
        pixels=lambda path, _: pixels(path),
        opened=opened,
        one_image=True,
    )


READERS: Final[Mapping[str, Reader]] = {
    "TIFF": Reader(
        tiff_header, tiff_pixels, tiff_opened,
        palette_numbers=tiff_palette_numbers, is_lossy=tiff_is_lossy,
    ),
    "PNG": replace(
        _one_image(png_header, png_pixels, png_pixels), palette_numbers=png_palette_numbers
    ),
    "JPEG": _one_image(jpeg_header, jpeg_pixels, jpeg_pixels),
    "NPY": replace(
        _one_image(npy_header, npy_pixels, npy_mapped), palette_numbers=cellpose_masks
    ),
    "NPZ": Reader(npz_header, npz_pixels, npz_opened),
    HDF5: Reader(hdf5_header, hdf5_pixels, hdf5_opened, one_image=True, inner_paths=True),
    OME_ZARR: Reader(zarr_header, zarr_pixels, zarr_opened),
    **{
        name: Reader(
            partial(plugin_header, name),
            partial(plugin_pixels, name),
            partial(plugin_opened, name),
        )
        for name in LIBRARIES
    },
}  # fmt: skip
"""Name of a format, as `bmz.image.formats.format_of` returns it -> reader.

PNG and JPEG files are one compressed stream: to read a region, the whole image is read.
"""
