"""Reading of OME-Zarr: the layout of versions 0.4 and 0.5, and the arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES, SPACE
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import (
    ImageEmpty,
    ImageTooLarge,
    ImageTruncated,
    ImageUnreadable,
    SeriesOutOfRange,
    ZarrHoldsImages,
)
from bmz.image.info import UNKNOWN_AXIS, Header, PixelSize
from bmz.image.known_formats import OME_ZARR
from bmz.image.npy import Stored
from bmz.image.pixel_size import from_lengths
from bmz.image.remote import ServerArray, address_of, bring_metadata

if TYPE_CHECKING:
    import zarr


ZarrArray: TypeAlias = "zarr.Array[Any]"

_METADATA: Final = ("zarr.json", ".zgroup", ".zarray")
_OTHER_FILES: Final = (*_METADATA, ".zattrs", ".zmetadata")


def is_node(folder: Path) -> bool:
    """Return whether `folder` is a group or an array; on a server, its metadata are fetched."""
    bring_metadata(folder)
    return any((folder / name).is_file() for name in _METADATA)


def group_attributes(folder: Path) -> Mapping[str, Any] | None:
    """Return the attributes of the group in `folder`; None if it is an array.

    Errors of zarr for damaged metadata are passed on; FileNotFoundError if it is neither.
    """
    import zarr

    bring_metadata(folder)
    # consolidated metadata may be outdated
    node = zarr.open(folder, mode="r", use_consolidated=False)
    return dict(node.attrs) if isinstance(node, zarr.Group) else None


def opened_array(path: Path, folder: Path) -> ZarrArray:
    """Open the array in `folder` for reading.

    Parameters
    ----------
    path : path of the image, for the error message
    folder : folder of the array

    Raises
    ------
    ImageUnreadable
        There is no array, or a codec of its chunks is not known to be safe.
    """
    import zarr

    from bmz.image.zarr_codecs import WholeFiles, look_at_chunks

    if not is_node(folder):
        raise ImageUnreadable(path, f"is incomplete: its array '{folder.name}' is missing")
    array = zarr.open_array(WholeFiles(folder), mode="r")
    look_at_chunks(path, array)
    return array


def has_chunks(folder: Path) -> bool:
    """Return whether the folder of an array has files other than metadata, or may on a server."""
    return address_of(folder) is not None or any(
        entry.name not in _OTHER_FILES for entry in folder.iterdir()
    )


_KNOWN = ("0.4", "0.5")


class ZarrAxis(NamedTuple):
    """One axis of a multiscale image.

    Parameters
    ----------
    name, type, unit : as written in the metadata; empty if missing
    scale : length of a pixel in `unit`; None if it is not stated
    """

    name: str
    type: str
    unit: str
    scale: float | None


@dataclass(frozen=True)
class Chosen:
    """The requested array.

    Parameters
    ----------
    folder : folder of the array
    count : number of images to choose from
    axes : one entry per axis of the array; empty if no multiscale image refers to it
    omero : names and display settings of its channels
    is_label : whether its values are labels of objects
    names : names of the images, or empty
    remarks : remarks about its metadata, one sentence each
    coarser : folders of lower resolutions of the image, the finest first
    """

    folder: Path
    count: int = 1
    axes: tuple[ZarrAxis, ...] = ()
    omero: Mapping[str, Any] = field(default_factory=dict)
    is_label: bool = False
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    coarser: tuple[Path, ...] = ()


class _Group(NamedTuple):
    """A folder, and its attributes about images."""

    folder: Path
    ome: Mapping[str, Any]
    version: str
    is_nested: bool

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a remark if the version is not one of those that are fully supported."""
        if self.version.startswith(_KNOWN):
            return ()
        like = _KNOWN[-1] if self.is_nested else _KNOWN[0]
        return (f"it is OME-Zarr {self.version}, which is read as {like}",)


class _Dataset(NamedTuple):
    """One resolution of a multiscale image: its path in the group, and its axes."""

    path: str
    axes: tuple[ZarrAxis, ...]


def chosen_array(path: Path, series: int) -> Chosen:
    """Find the array of image number `series` of `path`.

    In a group of images, each multiscale is a series, at full resolution. In the layout of
    bioformats2raw, each group is a series, with the first of its multiscales. In the group of all
    labels of an image, each label image is a series. An array is itself the image, with the axes
    that a group above it states.

    Raises
    ------
    ImageUnreadable
        The metadata do not follow the format, or refer to something that does not exist.
    ZarrHoldsImages
        The folder is a plate or a well, or has no images.
    SeriesOutOfRange
        There is no image with this number.
    """
    attributes = group_attributes(path)
    if attributes is None:
        if series != 0:
            raise SeriesOutOfRange(path, series, 1)
        return _of_array(path)
    group = _group(path, path, attributes)
    images = _multiscales(path, group)
    if images:
        _refuse_outside(path, series, len(images))
        return _of_image(path, group, series, count=len(images))
    if "bioformats2raw.layout" in group.ome:
        folders = _bioformats2raw(path)
        _refuse_outside(path, series, len(folders))
        image = _group_in(path, path / folders[series])
        return _of_image(path, image, 0, count=len(folders))
    labels = group.ome.get("labels")
    if isinstance(labels, list) and labels:
        return _of_labels(path, tuple(map(str, labels)), series)
    raise _no_image(path, group)


def _of_labels(path: Path, names: tuple[str, ...], series: int) -> Chosen:
    _refuse_outside(path, series, len(names))
    image = _group_in(path, _inside(path, path, names[series]))
    chosen = _of_image(path, image, 0, count=len(names))
    return replace(chosen, is_label=True, names=names)


def _of_image(path: Path, group: _Group, number: int, *, count: int) -> Chosen:
    full, *coarser = _datasets(path, group, number)
    omero = group.ome.get("omero")
    return Chosen(
        folder=_inside(path, group.folder, full.path),
        count=count,
        axes=full.axes,
        omero=omero if isinstance(omero, Mapping) else {},
        # bmz writes labels only once, and makes the image of the folder refer to the same arrays
        is_label="image-label" in group.ome or full.path.startswith("labels/"),
        remarks=group.remarks,
        coarser=tuple(_inside(path, group.folder, dataset.path) for dataset in coarser),
    )


def _of_array(path: Path) -> Chosen:
    place = path.absolute()
    for parent in place.parents:
        if not is_node(parent):
            break
        group = _group(path, parent, group_attributes(parent) or {})
        name = place.relative_to(parent).as_posix()
        for number in range(len(_multiscales(path, group))):
            dataset = next((d for d in _datasets(path, group, number) if d.path == name), None)
            if dataset is not None:
                chosen = _of_image(path, group, number, count=1)
                return Chosen(path, 1, dataset.axes, chosen.omero, chosen.is_label)
    return Chosen(path)


def _group_in(path: Path, folder: Path) -> _Group:
    attributes = group_attributes(folder) if is_node(folder) else None
    if attributes is None:
        raise ImageUnreadable(path, f"is incomplete: its image '{folder.name}' is missing")
    return _group(path, folder, attributes)


def _group(path: Path, folder: Path, attributes: Mapping[str, Any]) -> _Group:
    # 0.5 puts everything under "ome"; in 0.4, each multiscale states the version
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, Mapping):
        raise ImageUnreadable(path, "is a damaged OME-Zarr folder: its 'ome' is not an object")
    nested = ome is not attributes
    first = (*_multiscales(path, _Group(folder, ome, "", nested)), {})[0]
    version = ome.get("version") if nested else first.get("version")
    return _Group(folder, ome, str(version or ("0.5" if nested else "0.4")), nested)


def _multiscales(path: Path, group: _Group) -> Sequence[Mapping[str, Any]]:
    entries = group.ome.get("multiscales", [])
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ImageUnreadable(path, "is a damaged OME-Zarr folder: 'multiscales' is not a list")
    return entries


def _datasets(path: Path, group: _Group, number: int) -> tuple[_Dataset, ...]:
    """Validate multiscale `number` and return its resolutions, the finest first.

    If only the pixel size does not follow the format, it counts as unknown.
    """
    from pydantic import ValidationError
    from yaozarrs import v04, v05

    entry = _with_axes(_multiscales(path, group)[number] if group.ome.get("multiscales") else {})
    try:
        (v05 if group.is_nested else v04).Multiscale.model_validate(entry)
    except ValidationError as why:
        for error in why.errors():
            if _LENGTHS in error["loc"]:
                continue
            place = ".".join(str(word) for word in ("multiscales", number, *error["loc"]))
            words = " ".join(error["msg"].split())
            raise ImageUnreadable(
                path, f"does not follow OME-Zarr {group.version} at {place}: {words[:120]}"
            ) from why
    whole = _scale(entry, len(entry["axes"]))
    return tuple(_dataset(entry["axes"], dataset, whole) for dataset in entry["datasets"])


_LENGTHS = "coordinateTransformations"

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def _with_axes(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Add the axes that 0.4 requires to a multiscale: 0.3 has only names, 0.1 and 0.2 no axes."""
    version = str(entry.get("version", ""))
    names = list(_TYPES) if version in ("0.1", "0.2") else entry.get("axes")
    own = {key: value for key, value in entry.items() if key != "version"}
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        own["axes"] = [{"name": n, **({"type": _TYPES[n]} if n in _TYPES else {})} for n in names]
    return own


def _dataset(
    axes: Sequence[Mapping[str, Any]], dataset: Mapping[str, Any], whole: Sequence[float] | None
) -> _Dataset:
    own = _scale(dataset, len(axes))
    scales = [a * b for a, b in zip(own, whole or [1.0] * len(own), strict=True)] if own else whole
    lengths: Sequence[float | None] = scales or [None] * len(axes)
    return _Dataset(
        str(dataset["path"]).strip("/"),
        tuple(
            ZarrAxis(axis["name"], str(axis.get("type") or ""), str(axis.get("unit") or ""), length)
            for axis, length in zip(axes, lengths, strict=True)
        ),
    )


def _scale(holder: Mapping[str, Any], ndim: int) -> Sequence[float] | None:
    """Return the scale of a resolution or a whole image; None if it is ambiguous."""
    steps = holder.get(_LENGTHS)
    scales = [s.get("scale") for s in steps if isinstance(s, Mapping)] if steps else []
    known = [scale for scale in scales if scale is not None]
    if len(known) != 1 or not isinstance(known[0], list) or len(known[0]) != ndim:
        return None
    return known[0] if all(isinstance(n, int | float) for n in known[0]) else None


def _bioformats2raw(path: Path) -> list[str]:
    """Return the folders of the images in the layout of bioformats2raw.

    Source: OME-Zarr 0.4 and 0.5, "bioformats2raw.layout": a list in the group ``OME``, or else
    folders numbered from 0.
    """
    if is_node(path / "OME"):
        listed = _group_in(path, path / "OME").ome.get("series")
        if isinstance(listed, list) and listed:
            for name in listed:
                _inside(path, path, str(name))
            return [str(name) for name in listed]
    names: list[str] = []
    while is_node(path / str(len(names))):
        names.append(str(len(names)))
    if not names:
        raise ImageUnreadable(path, "is incomplete: all of its images are missing")
    return names


def _inside(path: Path, folder: Path, name: str) -> Path:
    words = PurePosixPath(name)
    if words.is_absolute() or ".." in words.parts:
        raise ImageUnreadable(path, f"is refused: it names '{name}', which is outside of it")
    return folder / words


def _refuse_outside(path: Path, series: int, count: int) -> None:
    if not 0 <= series < count:
        raise SeriesOutOfRange(path, series, count)


def _no_image(path: Path, group: _Group) -> ZarrHoldsImages:
    ome = group.ome
    if isinstance(ome.get("labels"), list):
        return ZarrHoldsImages(path, "a group of label images that lists none", [])
    if isinstance(ome.get("plate"), Mapping):
        wells = [f"{well}/0" for well in _paths(ome["plate"].get("wells"))]
        return ZarrHoldsImages(path, "a plate", wells)
    if isinstance(ome.get("well"), Mapping):
        return ZarrHoldsImages(path, "a well", _paths(ome["well"].get("images")))
    nodes = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and is_node(entry))
    return ZarrHoldsImages(path, "a Zarr group without multiscales", nodes)


def _paths(listed: object) -> list[str]:
    entries = listed if isinstance(listed, list) else []
    return [str(e["path"]).strip("/") for e in entries if isinstance(e, Mapping) and "path" in e]


_LETTER_OF_TYPE = {"time": "t", "channel": "c"}


def zarr_header(path: Path, series: int) -> Header:
    """Read the header of image number `series` of an OME-Zarr folder.

    Axes t, c, z of size 1 stay unnamed, since writers add them to make five axes. The pixel size
    is known along axes that have a unit. Channel names are the labels of ``omero``.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty, ZarrHoldsImages, SeriesOutOfRange
        The folder is damaged or incomplete, or is not an image.
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
            series_names=chosen.names,
            remarks=chosen.remarks,
        )


def zarr_labels(path: Path) -> tuple[str, ...]:
    """Return the names of the label images in the folder of an image; none if it is labels itself.

    Raises
    ------
    ImageUnreadable, ZarrHoldsImages
        The folder is damaged, or is not an image.
    """
    with decoding(path, OME_ZARR):
        place = labels_within(path)
        nodes = () if place is None else filter(is_node, place.iterdir())
        return tuple(sorted(f.name for f in nodes if not f.name.startswith(".")))


def labels_within(path: Path) -> Path | None:
    """Return the folder of the label images of an image; None if it has none or is labels."""
    place = path / "labels"
    return place if place.is_dir() and not chosen_array(path, 0).is_label else None


@contextmanager
def zarr_opened(path: Path, series: int) -> Iterator[Stored]:
    """Open the array of image number `series`; reading a region reads the chunks it touches."""
    chosen = chosen_array(path, series)
    array, address = _sound(path, chosen), address_of(chosen.folder)
    yield array if address is None else ServerArray(array, chosen.folder, address)


def zarr_pixels(path: Path, series: int) -> AnyArray:
    """Read all pixels of image number `series` in the order of the folder.

    In Zarr, a chunk that is not stored has the fill value; a lost chunk looks the same.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        The pixels cannot be read.
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
    # labels without objects may be stored without chunks, since the fill value is 0
    if not chosen.is_label and not has_chunks(chosen.folder):
        raise ImageTruncated(path, f"its array '{chosen.folder.name}' has no chunks")
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
    # 0.5, axes: "unit" SHOULD be there; without it, a scale is not a length
    stated = [(a, axis.unit, axis.scale) for a, axis in zip(letters, chosen.axes, strict=False)]
    lengths = {a: scale for a, _, scale in stated if a in SPACE and scale is not None}
    return from_lengths(lengths, {a: unit for a, unit, _ in stated}, OME_ZARR)


def _channel_names(chosen: Chosen) -> tuple[str, ...]:
    channels = chosen.omero.get("channels", ())
    if not isinstance(channels, list) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()
