"""OME-Zarr 0.4 and 0.5: which array of a folder is meant, and what is said about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, SPACE
from bmz.image.decoding import decoding
from bmz.image.faults import ImageEmpty, ImageTooLarge, ImageTruncated, ImageUnreadable
from bmz.image.header import Header, PixelSize
from bmz.image.info import UNKNOWN_AXIS
from bmz.image.known_formats import OME_ZARR
from bmz.image.ome_zarr_layout import Chosen, chosen_array
from bmz.image.pixel_size import from_lengths
from bmz.image.stored import Stored
from bmz.image.zarr_folder import ZarrArray, has_chunks, is_node, opened_array

_LETTER_OF_TYPE = {"time": "t", "channel": "c"}


def zarr_header(path: Path, series: int) -> Header:
    """Read what an OME-Zarr folder says of image number `series`.

    Axes t, c, z of one entry stay unnamed: writers add them to make five. A pixel has a length
    where its axis has a unit. Names of channels are the labels of ``omero``.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty, ZarrHoldsImages, SeriesOutOfRange
        The folder is not sound or not whole, or is no image.
    """
    with decoding(path, OME_ZARR):
        chosen = chosen_array(path, series)
        array = _sound(path, chosen)
        letters = _letters(chosen, array)
        axes = "".join(
            UNKNOWN_AXIS if n == 1 and a in "tcz" else a
            for a, n in zip(letters, array.shape, strict=True)
        )
        sizes = dict(zip(axes, array.shape, strict=True))
        names = _channel_names(chosen)
        return Header(
            axes=axes,
            shape=array.shape,
            dtype=np.dtype(array.dtype).newbyteorder("="),
            pixel=_pixel_size(chosen, letters),
            channel_names=names if len(names) == sizes.get("c", 1) else (),
            series_count=chosen.count,
        )


def zarr_labels(path: Path) -> tuple[str, ...]:
    """Give the names of the label images in the folder of an image; none where it is labels.

    Raises
    ------
    ImageUnreadable, ZarrHoldsImages
        The folder is not sound, or is no image.
    """
    with decoding(path, OME_ZARR):
        place = path / "labels"
        if chosen_array(path, 0).is_label or not place.is_dir():
            return ()
        return tuple(sorted(one.name for one in place.iterdir() if is_node(one)))


@contextmanager
def zarr_opened(path: Path, series: int) -> Iterator[Stored]:
    """Open the array of image number `series`; a region of it reads the chunks that it touches."""
    yield _sound(path, chosen_array(path, series))


def zarr_pixels(path: Path, series: int) -> AnyArray:
    """Read all pixels of image number `series` in the order of the folder.

    Zarr: a chunk that is not stored holds the fill value; it cannot be told from a lost one.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        They cannot be had.
    """
    with decoding(path, OME_ZARR):
        array = _sound(path, chosen_array(path, series))
        try:
            pixels = np.asarray(array[...])
        except MemoryError as why:
            raise ImageTooLarge(path, array.shape) from why
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _sound(path: Path, chosen: Chosen) -> ZarrArray:
    array = opened_array(path, chosen.folder)
    if chosen.axes and len(chosen.axes) != array.ndim:
        raise ImageUnreadable(
            path, f"names {len(chosen.axes)} axes, but its array has {array.ndim}"
        )
    if not math.prod(array.shape):
        raise ImageEmpty(path, array.shape)
    # labels without an object may well be stored as nothing but the fill value 0
    if not chosen.is_label and not has_chunks(chosen.folder):
        raise ImageTruncated(path, f"its array '{chosen.folder.name}' has not one chunk")
    return array


def _letters(chosen: Chosen, array: ZarrArray) -> str:
    named = [_letter(axis.name, axis.type) for axis in chosen.axes]
    if not named:
        words = getattr(array.metadata, "dimension_names", None) or [""] * array.ndim
        named = [_letter(word or "", "") for word in words]
    return "".join(UNKNOWN_AXIS if named.count(a) > 1 else a for a in named)


def _letter(name: str, kind: str) -> str:
    word = name.lower()
    if len(word) == 1 and word in IMAGE_AXES:
        return word
    return _LETTER_OF_TYPE.get(kind, UNKNOWN_AXIS)


def _pixel_size(chosen: Chosen, letters: str) -> PixelSize:
    # 0.5, axes: "unit" SHOULD be there; without one a scale is a number of nothing
    found = [(a, axis.unit, axis.scale) for a, axis in zip(letters, chosen.axes, strict=False)]
    lengths = {a: scale for a, _, scale in found if a in SPACE}
    return from_lengths(lengths, {a: unit for a, unit, _ in found}, OME_ZARR)


def _channel_names(chosen: Chosen) -> tuple[str, ...]:
    channels = chosen.omero.get("channels", ())
    if not isinstance(channels, list) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()
