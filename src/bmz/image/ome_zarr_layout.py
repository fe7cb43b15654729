"""Where the images of an OME-Zarr folder lie, by its metadata as yaozarrs validates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bmz.image.faults import ImageUnreadable, SeriesOutOfRange, ZarrHoldsImages
from bmz.image.zarr_folder import group_attributes, is_node

_KNOWN = ("0.4", "0.5")


class ZarrAxis(NamedTuple):
    """One axis of a multiscale image.

    Parameters
    ----------
    name, type, unit : as written, empty where there is none
    scale : length of a pixel in `unit`
    """

    name: str
    type: str
    unit: str
    scale: float


@dataclass(frozen=True)
class Chosen:
    """The array that was asked for.

    Parameters
    ----------
    folder : of the array
    count : how many images there are to choose from
    axes : one an axis of the array; none when no multiscale image speaks of it
    omero : how its channels are shown and called
    is_label : whether its values are numbers of objects
    """

    folder: Path
    count: int = 1
    axes: tuple[ZarrAxis, ...] = ()
    omero: Mapping[str, Any] = field(default_factory=dict)
    is_label: bool = False


class _Group(NamedTuple):
    """A folder and what its attributes say about images."""

    folder: Path
    ome: Mapping[str, Any]
    version: str


class _Dataset(NamedTuple):
    """One resolution of a multiscale image: where in the group it lies, and its axes."""

    path: str
    axes: tuple[ZarrAxis, ...]


def chosen_array(path: Path, series: int) -> Chosen:
    """Find the array of image number `series` of `path`.

    A group of images: each of its multiscales is a series, at full resolution. The layout of
    bioformats2raw: each of its groups is a series, by the first of its multiscales. An array: this
    resolution, with the axes that a group above it gives it.

    Raises
    ------
    ImageUnreadable
        Metadata do not follow the format, or what they name is not there.
    ZarrHoldsImages
        It is a plate, a well, the group of all labels, or has no images.
    SeriesOutOfRange
        There are fewer.
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
        one = _group_in(path, path / folders[series])
        return _of_image(path, one, 0, count=len(folders))
    raise _no_image(path, group)


def _of_image(path: Path, group: _Group, number: int, *, count: int) -> Chosen:
    full = _datasets(path, group, number)[0]
    omero = group.ome.get("omero")
    return Chosen(
        folder=_inside(path, group.folder, full.path),
        count=count,
        axes=full.axes,
        omero=omero if isinstance(omero, Mapping) else {},
        # bmz writes the labels once, and lets the image of the folder be the same arrays
        is_label="image-label" in group.ome or full.path.startswith("labels/"),
    )


def _of_array(path: Path) -> Chosen:
    place = path.absolute()
    for parent in place.parents:
        if not is_node(parent):
            break
        group = _group(path, parent, group_attributes(parent) or {})
        name = place.relative_to(parent).as_posix()
        for number in range(len(_multiscales(path, group))):
            one = next((d for d in _datasets(path, group, number) if d.path == name), None)
            if one is not None:
                chosen = _of_image(path, group, number, count=1)
                return Chosen(path, 1, one.axes, chosen.omero, chosen.is_label)
    return Chosen(path)


def _group_in(path: Path, folder: Path) -> _Group:
    attributes = group_attributes(folder) if is_node(folder) else None
    if attributes is None:
        raise ImageUnreadable(path, f"is incomplete: its image '{folder.name}' is not there")
    return _group(path, folder, attributes)


def _group(path: Path, folder: Path, attributes: Mapping[str, Any]) -> _Group:
    # 0.5 puts everything under "ome"; 0.4 lets each multiscale tell the version
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, Mapping):
        raise ImageUnreadable(path, "is a damaged OME-Zarr folder: its 'ome' is no object")
    nested = ome is not attributes
    first = (*_multiscales(path, _Group(folder, ome, "")), {})[0]
    told = ome.get("version") if nested else first.get("version")
    version = str(told or ("0.5" if nested else "0.4"))
    if version not in _KNOWN:
        raise ImageUnreadable(path, f"is OME-Zarr {version}; wanted {' or '.join(_KNOWN)}")
    return _Group(folder, ome, version)


def _multiscales(path: Path, group: _Group) -> Sequence[Mapping[str, Any]]:
    entries = group.ome.get("multiscales", [])
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ImageUnreadable(path, "is a damaged OME-Zarr folder: 'multiscales' is no list")
    return entries


def _datasets(path: Path, group: _Group, number: int) -> tuple[_Dataset, ...]:
    """Validate multiscale `number` and give its resolutions, the finest first."""
    from pydantic import ValidationError
    from yaozarrs import v04, v05

    entry = _multiscales(path, group)[number] if group.ome.get("multiscales") else {}
    model = v04.Multiscale if group.version == "0.4" else v05.Multiscale
    try:
        image = model.model_validate(entry)
    except ValidationError as why:
        error = why.errors()[0]
        place = ".".join(str(word) for word in ("multiscales", number, *error["loc"]))
        words = " ".join(error["msg"].split())
        raise ImageUnreadable(
            path, f"does not follow OME-Zarr {group.version} at {place}: {words[:120]}"
        ) from why
    whole = _scale(image.coordinateTransformations or (), len(image.axes))
    return tuple(_dataset(image.axes, one, whole) for one in image.datasets)


def _dataset(axes: Sequence[Any], dataset: Any, whole: Sequence[float]) -> _Dataset:  # noqa: ANN401
    # yaozarrs has a class of each for each version, alike in the names of their fields
    scales = _scale(dataset.coordinateTransformations, len(axes))
    return _Dataset(
        dataset.path.strip("/"),
        tuple(
            ZarrAxis(axis.name, str(axis.type or ""), str(getattr(axis, "unit", None) or ""), a * b)
            for axis, a, b in zip(axes, scales, whole, strict=True)
        ),
    )


def _scale(transformations: Sequence[Any], ndim: int) -> Sequence[float]:
    found = (t.scale for t in transformations if t.type == "scale")
    return next(found, [1.0] * ndim)


def _bioformats2raw(path: Path) -> list[str]:
    """Give the folders of the images.

    Source: OME-Zarr 0.4 and 0.5, "bioformats2raw.layout": a list in the group ``OME``, else
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
        raise ImageUnreadable(path, "is incomplete: not one of its images is there")
    return names


def _inside(path: Path, folder: Path, name: str) -> Path:
    words = PurePosixPath(name)
    if words.is_absolute() or ".." in words.parts:
        raise ImageUnreadable(path, f"is refused: it names '{name}', which lies outside of it")
    return folder / words


def _refuse_outside(path: Path, series: int, count: int) -> None:
    if not 0 <= series < count:
        raise SeriesOutOfRange(path, series, count)


def _no_image(path: Path, group: _Group) -> ZarrHoldsImages:
    ome = group.ome
    if isinstance(ome.get("labels"), list):
        return ZarrHoldsImages(
            path, "the group of all label images", [str(n) for n in ome["labels"]]
        )
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
