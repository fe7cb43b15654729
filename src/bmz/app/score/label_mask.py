"""Read label masks; an image that is none is refused, and never scored as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.image.info import UNKNOWN_AXIS, ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.series import is_lossy, labels_beside, palette_numbers, series_paths
from bmz.process.adapt import stack_unique
from bmz.process.boundary import (
    Pieces,
    holes,
    numbered_pieces,
    only_value,
    piece_count,
    pieces_of_planes,
)

SCATTERED = 4
"""From so many pieces for each number on, numbers are classes or intensities, and no objects."""

SOFT = 1.5
"""The same where most pieces are specks, as at the edges of a mask that was resampled or lossy, and
numbers are left out: a program that numbers objects leaves none out, though some are in pieces."""

LEAST_SHARE = 0.1
"""Of the area of its largest piece, from which on a piece of a number is an object of its own."""

_LARGEST_8_BIT = 255
"""What programs write for the foreground; few masks of labels have this one alone."""

MOST_CLASSES = 16
"""Of no more numbers than these, pieces can be taken for objects."""


class NoMask(CouldNotTell):
    """An image cannot be a label mask."""

    def __init__(
        self,
        path: Path,
        why: str,
        hint: str = "a label mask holds one whole number for each object, 0 for background",
        code: str = "score.no-mask",
    ) -> None:
        super().__init__(f"'{path}' is no label mask: {why}", hint=hint, code=code)


def read_mask(path: Path, *, components: bool | None = None) -> AnyArray:
    """Read a label mask; which axis is which does not matter to its score.

    Of an image with a palette, the numbers of the colours are the labels.

    Parameters
    ----------
    path : a file, a folder of OME-Zarr, or labels in one (``x.zarr/labels/nuclei``)
    components : True gives numbers to the connected pieces of a mask that does not number its
        objects (a foreground, a few classes, colours); False takes its values for numbers of
        objects; None refuses it

    Returns
    -------
    array
        integers, in the order of the file's axes without those of size 1

    Raises
    ------
    NoMask
        It is an image, lossy, in colours, or does not number its objects; some of its numbers are
        not whole or below 0.
    CouldNotTell
        It cannot be read.
    """
    _refuse_pictures(path)
    frames = False
    mask = palette_numbers(path)
    if mask is None:
        info = _named(inspect_image(path))
        if info.series_count > 1 and not info.series_key:
            named = ", ".join(map(str, series_paths(path)))
            why = f"it holds {info.series_count} images"
            raise NoMask(path, why, f"name one: {named}", "score.several")
        pixels = read_image(info)
        frames = info.sizes.get("t", 1) > 1
        mask = pixels.array
        if info.colour:
            rgb = np.moveaxis(mask, pixels.axes.index("c"), -1)
            mask = _without_colours(path, rgb, refuse=components is not True)
    mask = _whole_numbers(path, np.squeeze(mask))
    if components is False or not _is_unnumbered(path, mask, refuse=components is None):
        return mask
    return stack_unique(list(map(numbered_pieces, mask))) if frames else numbered_pieces(mask)


def _refuse_pictures(path: Path) -> None:
    if is_lossy(path):
        why = "it is compressed as JPEG, which changes its numbers"
        raise NoMask(path, why, "save the labels as TIFF or PNG", "score.lossy")
    if beside := labels_beside(path):
        places = ", ".join(f"{path}/labels/{name}" for name in beside)
        raise NoMask(path, "it is an image, in which label masks lie", f"name one: {places}")


def _named(info: ImageInfo) -> ImageInfo:
    if UNKNOWN_AXIS not in info.axes:
        return info
    return replace(info, axes="tczyx"[-len(info.shape) :])


def _without_colours(path: Path, pixels: AnyArray, *, refuse: bool) -> AnyArray:
    """Give one number for each colour, black 0; a picture of greys is what it seems to be."""
    first = pixels[..., :1]
    if (pixels == first).all():
        return pixels[..., 0]
    if refuse:
        why = "it is a picture in colours, and a colour is no label"
        hint = "save the labels themselves; or --components numbers the pieces of each colour"
        raise NoMask(path, why, hint)
    colours = pixels.reshape(-1, pixels.shape[-1])
    kinds, numbers = np.unique(colours, axis=0, return_inverse=True)
    black = not kinds[0].any()  # the lowest of all colours is the first
    return (numbers.reshape(pixels.shape[:-1]) + (not black)).astype(np.int64)


def _whole_numbers(path: Path, mask: AnyArray) -> AnyArray:
    if mask.dtype.kind == "b":
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f":
        if not np.isfinite(mask).all() or (mask != np.rint(mask)).any():
            raise NoMask(path, "some of its numbers are not whole")
        mask = mask.astype(np.int64)
    if mask.size and mask.min() < 0:
        raise NoMask(path, f"it holds {mask.min()}, which is below 0")
    return mask


def _is_unnumbered(path: Path, mask: AnyArray, *, refuse: bool) -> bool:
    """Say whether objects have no numbers of their own.

    Raises
    ------
    NoMask
        They have none, and `refuse`; or there are too many values to be classes.
    """
    if mask.ndim < len("yx"):
        return False
    value, numbers = only_value(mask), pieces_of_planes(mask)
    if value is not None:
        # a single object may be cut into pieces by the planes of a stack, or have lost a few pixels
        sure = value == _LARGEST_8_BIT
        pieces = piece_count(mask, 0.0 if sure else LEAST_SHARE)
        count = pieces if numbers.pieces > numbers.values else 1
        if refuse or count == 1:
            _refuse_ground(path, mask, value)
        why = f"its only number, {value}, lies in {count} separate pieces: it tells objects from "
        why += "background, and not from each other"
    else:
        count = numbers.pieces if _is_scattered(numbers) else 1
        why = f"{numbers.values} numbers lie in {count} separate pieces: they are classes or "
        why += "intensities, and not objects"
    few = value is not None or (numbers.values <= MOST_CLASSES and not _is_soft(numbers))
    if count > 1 and (refuse or not few):
        offer = "--components gives each piece a number; " * few
        hint = f"{offer}--no-components takes the numbers for objects as they are"
        raise NoMask(path, why, hint, "score.foreground" if few else "score.no-mask")
    return count > 1


def _refuse_ground(path: Path, mask: AnyArray, value: int) -> None:
    count = max(holes(plane) for plane in mask.reshape(-1, *mask.shape[-2:]))
    if count > 1:
        why = f"its only number, {value}, lies around {count} holes: it tells background from "
        why += "objects, or objects that touch from background, and not objects from each other"
        hint = "invert it, or label it first; --no-components takes its numbers as they are"
        raise NoMask(path, why, hint, "score.foreground")


def _is_scattered(numbers: Pieces) -> bool:
    return numbers.pieces >= SCATTERED * max(numbers.values, 1) or _is_soft(numbers)


def _is_soft(numbers: Pieces) -> bool:
    many_specks = numbers.pieces >= SOFT * numbers.values and 2 * numbers.specks > numbers.pieces
    return many_specks and numbers.left_out > 0
