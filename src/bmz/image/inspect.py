"""The metadata of an image file, and the axes that the user states instead of the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.axes import IMAGE_AXES
from bmz.base.values import dataclass
from bmz.image.faults import (
    AxesRefused,
    ImageUnreadable,
    PixelsRefused,
    SeriesOutOfRange,
    in_words,
)
from bmz.image.formats import format_of, split_series
from bmz.image.info import UNKNOWN_AXIS, Header, ImageInfo, Taken
from bmz.image.readers import READERS
from bmz.image.series import series_number

_PLANE = "yx"
_REAL_KINDS = "biuf"


def inspect_image(path: Path, *, axes: str | None = None, series: int = 0) -> ImageInfo:
    """Return the metadata of one image of a file, without reading its pixels.

    Unnamed axes of size 1 are left out. Any other axis that the file does not name is ``q``.

    Parameters
    ----------
    path : TIFF, ImageJ TIFF, OME-TIFF, PNG, JPEG or NPY file; with plugins a CZI, LIF or ND2 file;
        folder of OME-Zarr 0.4 or 0.5: the image, one of its labels (``x.ome.zarr/labels/nuclei``)
        or one of its resolutions (``x.ome.zarr/1``); append the name or number of an image in
        brackets to choose it from a file with several (``cells.czi[2]``), or the path of a dataset
        of an HDF5 file (``cells.h5[/raw]``)
    axes : axes stated by the user, one letter per axis in the order of the file, such as ``zyx``;
        they override those of the file; axes of size 1 may be left out, or added if the file lacks
        them (a stack of one plane); ``z=12`` takes one position along an axis, ``z=max`` the
        maximum along it at each pixel, alone or after the axes (``zyx,z=max``)
    series : index of the image in the file (series, scene or multiscale), starting at 0

    Raises
    ------
    CouldNotTell
        The file cannot be read. Each case has its own class and code, see `bmz.image.faults`.
    AxesRefused, SeriesOutOfRange
        `axes` or `series` does not match the file.
    """
    file, key = split_series(path)
    if READERS[format_of(file)].inner_paths:
        file, key = path, ""
    if key:
        series = series_number(file, key)
    info = info_from(file, read_header(file, series), axes=axes, series=series)
    return replace(info, series_key=key)


def info_from(path: Path, header: Header, *, axes: str | None = None, series: int = 0) -> ImageInfo:
    """Return the metadata of an image from its header and the axes that the user states.

    Parameters
    ----------
    path : path of the image, kept in the result and used in error messages
    header : header with the axes in the order of the file
    axes, series : as for `inspect_image`

    Raises
    ------
    ImageUnreadable, PixelsRefused, AxesRefused
        The image is a single value, is not real-valued, or does not have the stated axes.
    """
    if not header.shape:
        raise ImageUnreadable(path, "contains a single value, not an image")
    if header.dtype.kind not in _REAL_KINDS:
        raise PixelsRefused(path, str(header.dtype))
    word, taken = (None, {}) if axes is None else _axes_and_taken(path, axes)
    named = _named_by_file(header) if word is None else _named_by_user(path, header, word)
    names = named.axes
    shape = tuple(1 if i is None else header.shape[i] for i in named.positions)
    sizes = dict(zip(names, shape, strict=True))
    channels = header.axes.find("c")
    same_c = "c" in names and named.positions[names.index("c")] == channels
    info = ImageInfo(
        path=path,
        axes=names,
        shape=shape,
        dtype=header.dtype,
        pixel_um={a: um for a, um in header.pixel.um.items() if a in names},
        pixel_from=header.pixel.source if header.pixel.um.keys() & sizes.keys() else "",
        odd_pixel=header.pixel.odd,
        impossible_pixel={a: why for a, why in header.pixel.impossible.items() if a in names},
        magnification=header.pixel.magnification,
        channel_names=header.channel_names if len(header.channel_names) == sizes.get("c") else (),
        colour=header.colour and same_c,
        series=series,
        series_count=header.series_count,
        series_names=header.series_names,
        remarks=header.remarks,
        cautions=header.cautions,
        well=header.well,
    )
    _refuse_absent(info, taken, axes or "")
    return info.taking(taken)


_TAKEN_ALONG = "tz"


def _axes_and_taken(path: Path, word: str) -> tuple[str | None, dict[str, Taken]]:
    """Split the user's text into the axis letters and what is taken along single axes."""
    letters, taken = None, dict[str, Taken]()
    for number, part in enumerate(word.split(",")):
        axis, sign, place = (text.strip().lower() for text in part.partition("="))
        if number == 0 and not sign:
            letters = axis
        elif axis not in tuple(_TAKEN_ALONG) or axis in taken:
            raise AxesRefused(
                path, word, "one position, or max, may be taken along t or z, each only once"
            )
        elif place == "max":
            taken[axis] = "max"
        elif place.isdecimal():
            taken[axis] = int(place)
        else:
            raise AxesRefused(path, word, f"'{part}' is neither {axis}=max nor {axis}=NUMBER")
    return letters, taken


def _refuse_absent(info: ImageInfo, taken: Mapping[str, Taken], word: str) -> None:
    """Raise an error if a taken axis or position does not exist.

    Raises
    ------
    AxesRefused, AxesUnknown
    """
    if taken:
        info.refuse_unknown_axes()
    for axis, place in taken.items():
        count = info.sizes.get(axis)
        if count is None:
            raise AxesRefused(info.path, word, f"it has the axes {info.axes}")
        if place != "max" and place >= count:
            raise AxesRefused(info.path, word, f"along {axis} it has {count} (the first is 0)")


def read_header(path: Path, series: int) -> Header:
    """Read the header of image number `series` with the reader for the content of the file.

    Raises
    ------
    CouldNotTell, SeriesOutOfRange
        As for `inspect_image`.
    """
    reader = READERS[format_of(path)]
    if reader.one_image and series != 0:
        raise SeriesOutOfRange(path, series, 1)
    return reader.header(path, series)


@dataclass(frozen=True)
class _Kept:
    """Letters of the axes that are kept, and the position of each in the file; None if added."""

    axes: str
    positions: tuple[int | None, ...]


def _named_by_file(header: Header) -> _Kept:
    named = [a != UNKNOWN_AXIS or n > 1 for a, n in zip(header.axes, header.shape, strict=True)]
    positions = tuple(i for i, keep in enumerate(named) if keep)
    if len(positions) < len(_PLANE):
        positions = tuple(range(len(header.axes)))
    axes = "".join(header.axes[i] for i in positions)
    return _Kept(_PLANE if axes == UNKNOWN_AXIS * len(_PLANE) else axes, positions)


def _named_by_user(path: Path, header: Header, axes: str) -> _Kept:
    axes = axes.lower()  # tifffile and bioio write axes in capitals, such as TYX
    _refuse_odd_words(path, axes)
    every = range(len(header.shape))
    unnamed = [i for i in every if header.shape[i] > 1 or header.axes[i] != UNKNOWN_AXIS]
    larger = [i for i in every if header.shape[i] > 1]
    for positions in (every, unnamed, larger):
        if len(positions) == len(axes):
            return _Kept(axes, tuple(positions))
    added = _with_added(header, axes)
    if added is not None:
        return added
    raise AxesRefused(path, axes, _counts(header.axes, header.shape, axes))


def _with_added(header: Header, axes: str) -> _Kept | None:
    """Add the axes of size 1 that only the user names; return None if they are ambiguous."""
    known = header.axes
    if len(known) == len(_PLANE):  # two axes are y and x, in the order in which the user names them
        known = "".join(a for a in axes if a in _PLANE)
    if [a for a in axes if a in known] != list(known):
        return None
    places = iter(range(len(known)))
    return _Kept(axes, tuple(next(places) if a in known else None for a in axes))


def _refuse_odd_words(path: Path, axes: str) -> None:
    strange = sorted(set(axes) - set(IMAGE_AXES))
    if strange:
        raise AxesRefused(path, axes, f"'{strange[0]}' is not an axis")
    twice = next((a for a in axes if axes.count(a) > 1), None)
    if twice is not None:
        raise AxesRefused(path, axes, f"'{twice}' occurs twice")
    absent = next((a for a in _PLANE if a not in axes), None)
    if absent is not None:
        raise AxesRefused(path, axes, f"'{absent}' is missing")


def _counts(subject: str, shape: Sequence[int], axes: str) -> str:
    known = f", known: {subject}" if set(subject) != {UNKNOWN_AXIS} else ""
    return f"it names {len(axes)} axes, but the file has {len(shape)} ({in_words(shape)}{known})"
