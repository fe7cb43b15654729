"""Lower resolutions of an image in its file: the pyramids of TIFF and OME-Zarr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bmz.image.decoding import decoding
from bmz.image.formats import format_of
from bmz.image.known_formats import OME_ZARR
from bmz.image.npy import Stored
from bmz.image.ome_zarr import chosen_array, opened_array
from bmz.image.region import OpenImage
from bmz.image.remote import ServerArray, address_of, bring_metadata
from bmz.image.tiff import tiff_coarser


@contextmanager
def zarr_coarser(path: Path, series: int) -> Iterator[list[Stored]]:
    """Open the lower resolutions of an image; on a server, all are requested at once."""
    folders = chosen_array(path, series).coarser
    with ThreadPoolExecutor(max(len(folders), 1)) as pool:
        list(pool.map(bring_metadata, folders))
    arrays = [(opened_array(path, folder), folder) for folder in folders]
    addresses = [address_of(folder) for folder in folders]
    yield [
        array if address is None else ServerArray(array, folder, address)
        for (array, folder), address in zip(arrays, addresses, strict=True)
    ]


_COARSER: Mapping[str, Callable[[Path, int], AbstractContextManager[Sequence[Stored]]]] = {
    "TIFF": tiff_coarser,
    OME_ZARR: zarr_coarser,
}
"""Name of a format -> opener of its lower resolutions; other formats have none."""


@contextmanager
def open_coarser(image: OpenImage) -> Iterator[list[OpenImage]]:
    """Open the lower resolutions of an open image, which differ from it only in rows and columns.

    Yields
    ------
    list of OpenImage
        lower resolutions, the finest first; empty if the image is only a part of that in its file

    Raises
    ------
    CouldNotTell
        The lower resolutions cannot be read.
    """
    info = image.info
    opened = _COARSER.get(format_of(info.path))
    if opened is None or info.stack is not None:
        yield []
        return
    with ExitStack() as stack:
        with decoding(info.path, image.format_name):
            copies = stack.enter_context(opened(info.path, info.series))
        smaller = (_smaller(image, stored) for stored in copies)
        yield [copy for copy in smaller if copy is not None]


def _smaller(image: OpenImage, stored: Stored) -> OpenImage | None:
    """Return a copy with the axes of the image; None if other axes than y and x differ."""
    whole, info = image.stored.shape, image.info
    if len(stored.shape) != len(whole) or stored.dtype != image.stored.dtype:
        return None
    # axes of size 1 may have been left out, or added
    sizes = iter([n for n, old in zip(stored.shape, whole, strict=True) if old > 1])
    shape = tuple(next(sizes) if n > 1 else 1 for n in info.shape)
    for axis, n, old in zip(info.axes, shape, info.shape, strict=True):
        if n != old and (axis not in "yx" or n > old):
            return None
    return replace(image, info=replace(info, shape=shape), stored=stored)
