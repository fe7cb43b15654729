"""Writing labels into the OME-Zarr of their image, without replacing labels of other programs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmz.base.errors import CouldNotTell, WrongUsage, not_none
from bmz.base.files import is_left_by_dead, is_there, unfinished
from bmz.image.known_formats import OME_ZARR
from bmz.image.ome_zarr import group_attributes, is_node, zarr_header
from bmz.image.remote import address_of
from bmz.write.ome_zarr import LABELS, LabelImage, ZarrFormat, write_ome_group
from bmz.write.result import IN_IMAGE, Result

_ZARR_3 = 3
"""The version of Zarr that stores attributes in ``zarr.json``."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN = "bmz"
"""The attribute that marks labels written by bmz."""


class ImageTakesNoLabels(WrongUsage):
    """Labels cannot be written into an image."""

    def __init__(self, image: Path, why: str, hint: str) -> None:
        super().__init__(
            f"--into-image cannot write to '{image}': {why}", hint=hint, code="into-image.image"
        )


class LabelsOfOthers(WrongUsage):
    """Labels with this name already exist, and were not written by bmz."""

    def __init__(self, group: Path) -> None:
        super().__init__(
            f"'{group}' already exists, and was not written by --into-image",
            hint="choose another name: bmz never replaces labels that it did not write",
            code="into-image.taken",
        )


class LabelGridDiffers(CouldNotTell):
    """The labels do not cover the grid of the whole image."""

    def __init__(self, image: Path, labels: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        super().__init__(
            f"--into-image cannot write to '{image}': the labels are {_words(labels)}, but the "
            f"image is {_words(sizes)}",
            hint="run the whole image, without taking a plane or a projection of it",
            code="into-image.grid",
        )


def _words(sizes: Mapping[str, int]) -> str:
    return " x ".join(f"{axis}={size}" for axis, size in sizes.items())


def with_places_in_images(
    files: Mapping[Path, Mapping[str, Path]], name: str
) -> dict[Path, dict[str, Path]]:
    """Add the path of the labels inside each image to its outputs.

    Parameters
    ----------
    files : image -> kind -> path
    name : name of the labels

    Raises
    ------
    ImageTakesNoLabels
        An image is not an OME-Zarr on this computer.
    LabelsOfOthers
        An image already has labels with this name that bmz did not write.
    WrongUsage
        The name is not a valid folder name on every operating system.
    """
    if not _NAME.fullmatch(name):
        raise WrongUsage(
            f"--into-image '{name}' is not a valid name for labels",
            hint="use letters, digits, '.', '_' and '-', such as nuclei",
            code="into-image.name",
        )
    return {image: {**kinds, IN_IMAGE: _place(image, name)} for image, kinds in files.items()}


def _place(image: Path, name: str) -> Path:
    if not image.is_dir():
        raise ImageTakesNoLabels(
            image, f"it is not an {OME_ZARR} folder", "leave --into-image out, or convert the image"
        )
    if address_of(image) is not None:
        raise ImageTakesNoLabels(
            image, "it is on a server or in a zip", "copy it to this computer first"
        )
    ome = _ome(image)
    if "multiscales" not in ome or "image-label" in ome:
        why = "its metadata do not describe an image (no 'multiscales', or labels)"
        raise ImageTakesNoLabels(image, why, "give the folder of the image itself")
    group = image / LABELS / name
    _refuse_others(group)
    return group


def _refuse_others(group: Path) -> None:
    if is_there(group) and _OWN not in ((is_node(group) and group_attributes(group)) or {}):
        raise LabelsOfOthers(group)


def _ome(folder: Path) -> Mapping[str, Any]:
    attributes = (group_attributes(folder) if is_node(folder) else None) or {}
    nested = attributes.get("ome", attributes)
    return nested if isinstance(nested, Mapping) else {}


def _format_of(image: Path) -> ZarrFormat:
    return 3 if (image / "zarr.json").is_file() else 2


def write_image_labels(result: Result, path: Path) -> None:
    """Write the labels into an image, under a temporary name.

    Parameters
    ----------
    result : result of a run
    path : folder of the group, in the labels of the image; see `images_with_labels`

    Raises
    ------
    LabelGridDiffers
        The labels cover only a part of the image, or a projection of it.
    """
    labels, image = not_none(result.labels), path.parents[1]
    header = zarr_header(image, 0)
    whole = {a: n for a, n in zip(header.axes, header.shape, strict=True) if a in "tzyx" and n > 1}
    sizes = dict(zip(labels.axes, labels.shape, strict=True))
    if {axis: size for axis, size in sizes.items() if size > 1} != whole:
        raise LabelGridDiffers(image, sizes, whole)
    um = {axis: length for axis, length in result.pixel_um.items() if axis in labels.axes}
    name = path.name.partition(_BEHIND)[2]
    LabelImage(path, labels.axes, um, _format_of(image)).write(name, labels, result.provenance)


_BEHIND = "~"
"""Separator before the name of labels that are being written; no valid name contains it."""


@contextmanager
def images_with_labels(files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Yield a temporary path for labels in an image; they appear if the block ends without error.

    Then the sha256 of the record of the run is added to the labels, they are renamed, and finally
    added to the list of labels of the image. If the block raises, the image is left unchanged.

    Parameters
    ----------
    files : kind -> path; includes the record, which must be complete when the block ends
    """
    group = files.get(IN_IMAGE)
    if group is None:
        yield {}
        return
    _refuse_others(group)
    temporary = group.with_name(f"{unfinished('writing')}{_BEHIND}{group.name}")
    made_folder = not group.parent.is_dir()
    group.parent.mkdir(exist_ok=True)
    for left in filter(is_left_by_dead, group.parent.iterdir()):
        shutil.rmtree(left, ignore_errors=True)
    try:
        yield {IN_IMAGE: temporary}
        _sign(temporary, hashlib.sha256(files["record"].read_bytes()).hexdigest())
        _replace(group, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made_folder and not any(group.parent.iterdir()):
            group.parent.rmdir()
    _list(group)


def _sign(group: Path, record_sha256: str) -> None:
    """Write the sha256 of the record of the run into the metadata of the labels."""
    file = next(f for f in (group / "zarr.json", group / ".zattrs") if f.is_file())
    document = json.loads(file.read_text(encoding="utf-8"))
    document.get("attributes", document)[_OWN]["record_sha256"] = record_sha256
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _replace(group: Path, whole: Path) -> None:
    """Rename complete labels to their final name, and remove the labels that had it."""
    earlier = whole.with_name(f"{whole.name}{_BEHIND}")
    if is_there(group):
        group.rename(earlier)
    try:
        whole.rename(group)
    except OSError:
        if is_there(earlier):
            earlier.rename(group)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _list(group: Path) -> None:
    """Append labels to the list of labels of their image."""
    folder, image = group.parent, group.parents[1]
    attributes = dict((group_attributes(folder) if is_node(folder) else None) or {})
    ome = dict(attributes.pop("ome", attributes))
    listed = ome.get("labels")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    if group.name not in names:
        version = _format_of(image)
        others = attributes if version == _ZARR_3 else {}
        write_ome_group(folder, {**ome, "labels": [*names, group.name]}, version, others)
