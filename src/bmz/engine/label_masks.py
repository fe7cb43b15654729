"""Pair label masks by name, read and check them, and write them.

An image that is not a label mask is refused and never scored as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.base.files import is_there, writable_folder
from bmz.image.formats import name_of, split_series
from bmz.image.info import UNKNOWN_AXIS, ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.known_formats import suffixes
from bmz.image.ome_zarr import is_node
from bmz.image.region import read_image
from bmz.image.series import in_dataset, is_lossy, labels_beside, palette_numbers, series_paths
from bmz.image.shapes import SHAPE_ENDINGS, is_shape_file, painted, read_shapes
from bmz.process.adapt import stack_unique
from bmz.process.boundary import (
    Pieces,
    holes,
    numbered_pieces,
    only_value,
    piece_count,
    pieces_of_planes,
)
from bmz.results.compare import Comparison, MaskPair
from bmz.write.names import stem_of
from bmz.write.outputs import OUTPUT_KINDS
from bmz.write.tiff import write_labels

_ENDING = re.compile(
    r"([._-](cp_)?(labels?|masks?|seg|gt|truth|predicted|prediction|rois?))?"
    rf"(\.ome)?({'|'.join(map(re.escape, (*suffixes(), *SHAPE_ENDINGS)))})$",
    re.IGNORECASE,
)
_DATASET = re.compile(r"\[[^\[\]]+\]$")
_LOSSY, _EXACT = suffixes(lossy=True), suffixes(lossy=False)

SCATTERED = 4
"""With at least this many pieces per number, numbers are classes or intensities, not objects."""

SOFT = 1.5
"""Like `SCATTERED`, for masks where most pieces are specks (as at the edges of a resampled or lossy
mask) and some numbers are missing; programs that number objects skip none."""

LEAST_SHARE = 0.1
"""Smallest area of a piece that counts as an object, as a share of its number's largest piece."""

_LARGEST_8_BIT = 255
"""The value that programs write for the foreground; it is rarely the only label of a mask."""

MOST_CLASSES = 16
"""Largest number of values of a mask whose pieces may be treated as objects."""


class NothingToScore(WrongUsage):
    """The paths name no masks, or none that belong together."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            hint="give two files, or two folders whose masks have the same names apart from "
            "endings such as .labels.tif, _mask.png",
            code="score.nothing",
        )


class NoTruthFor(CouldNotTell):
    """There is no true mask for an image."""

    def __init__(self, image: Path, truth: Path) -> None:
        super().__init__(
            f"'{truth}' has no mask named like '{name_of(image)}'",
            hint="true masks have the names of their images, plus endings such as _mask.png",
            code="compare.no-truth",
        )


def mask_pairs(predicted: Path, truth: Path, *, dataset: str | None = None) -> tuple[MaskPair, ...]:
    """Pair masks by the name before an ending such as ``.labels.tif`` or ``_mask.png``.

    A mask without a partner gives a pair with None on the other side. If one of the paths is a
    single file, masks with other names are left out.

    Parameters
    ----------
    predicted, truth : a file, a folder, or a pattern such as ``results/*.labels.tif``
    dataset : the dataset of HDF5 files that contains the labels; None for the only possible one

    Raises
    ------
    NothingToScore
        A path names no mask, two masks have the same name, or no names match.
    """
    two_files = _is_one(predicted) and _is_one(truth)
    pairs = _of_two_files(predicted, truth) if two_files else _by_name(predicted, truth)
    return _in_dataset(pairs, dataset)


def _by_name(predicted: Path, truth: Path) -> tuple[MaskPair, ...]:
    predicted_files, true_files = masks_by_name(predicted), masks_by_name(truth)
    predicted_files = _without_datasets(predicted_files, true_files)
    if not set(predicted_files) & set(true_files):
        raise NothingToScore(f"no mask in '{predicted}' has the same name as a mask in '{truth}'")
    names = {*predicted_files, *true_files}
    for path, files in ((predicted, predicted_files), (truth, true_files)):
        if _is_one(path):
            names &= set(files)
    return tuple(
        MaskPair(name, predicted_files.get(name), true_files.get(name)) for name in sorted(names)
    )


def _is_one(path: Path) -> bool:
    return is_there(split_series(path)[0]) and not is_many(path)


def _of_two_files(predicted: Path, truth: Path) -> tuple[MaskPair, ...]:
    """Pair the masks of two files; several masks in a file are paired by their names in it."""
    first, second = _images_in(predicted), _images_in(truth)
    if len(first) == len(second) == 1:
        return (MaskPair(name_of(predicted), first[0], second[0]),)
    by_key = [{split_series(path)[1]: path for path in paths} for paths in (first, second)]
    if len(first) == len(second) and any(all(map(str.isdecimal, keys)) for keys in by_key):
        # one of the files names its masks only by position
        by_key[1] = dict(zip(by_key[0], second, strict=True))
    if not set(by_key[0]) & set(by_key[1]):
        several = predicted if len(first) > 1 else truth
        raise NothingToScore(
            f"'{several}' has several masks, none with the name of the other mask: "
            f"{', '.join(map(str, _images_in(several)))}"
        )
    names = dict.fromkeys([*by_key[0], *by_key[1]])
    return tuple(MaskPair(name, by_key[0].get(name), by_key[1].get(name)) for name in names)


def _in_dataset(pairs: Sequence[MaskPair], dataset: str | None) -> tuple[MaskPair, ...]:
    paths = [path for pair in pairs for path in (pair.predicted, pair.truth) if path is not None]
    named: dict[Path | None, Path | None] = {None: None}
    named |= dict(zip(paths, in_dataset(paths, dataset), strict=True))
    return tuple(replace(p, predicted=named[p.predicted], truth=named[p.truth]) for p in pairs)


def _without_datasets(files: Mapping[str, Path], others: Mapping[str, Path]) -> Mapping[str, Path]:
    """Rename the result of one dataset of a file (``a[raw]``) to the file's name if it is free."""
    plain = {name: _DATASET.sub("", name) for name in files}
    counts = Counter(plain.values())
    return {
        plain[name] if name not in others and counts[plain[name]] == 1 else name: path
        for name, path in files.items()
    }


def is_many(path: Path) -> bool:
    """Return whether a path names a folder of masks rather than an OME-Zarr."""
    return is_there(path) and path.is_dir() and path.suffix != ".zarr" and not is_node(path)


def mask_name(path: Path) -> str:
    """Return the name shared by partners: the part before an ending such as ``_mask.png``.

    Labels in an OME-Zarr image take the name of the image.

    Examples
    --------
    >>> mask_name(Path("a_mask.png")), mask_name(Path("b.ome.zarr/labels/nuclei"))
    ('a', 'b')
    >>> mask_name(Path("c.h5[/raw]")), mask_name(Path("d_mask.tif[2]"))
    ('c', 'd[2]')
    """
    file, key = split_series(path)
    inside = file.parent.name == "labels" and file.parents[1].suffix == ".zarr"
    name = _ENDING.sub("", file.parents[1].name if inside else file.name)
    # a mask of an image in an HDF5 file is named after the file, as other formats have no datasets
    return f"{name}[{key}]" if key and not key.startswith("/") else name


def masks_by_name(place: Path) -> Mapping[str, Path]:
    """Return the masks of a folder or a pattern by name.

    In a file that contains several masks, each has its own name, such as ``a[left]``.

    Raises
    ------
    NothingToScore
        There is no mask, or two have the same name.
    """
    files: dict[str, Path] = {}
    for path in (path for file in _files(place) for path in _masks_in(file)):
        name = mask_name(path)
        if name in files:
            raise NothingToScore(f"'{files[name]}' and '{path}' have the same name '{name}'")
        files[name] = path
    if not files:
        raise NothingToScore(f"there is no mask at '{place}'")
    return files


def true_masks(
    truth: Path | None, images: Sequence[Path], *, components: bool | None
) -> Mapping[Path, AnyArray]:
    """Read the true mask of each image.

    Parameters
    ----------
    truth : a mask of the only image, or a folder of masks named like the images; None for no masks
    components : how to treat masks that do not number their objects, as in `read_mask`

    Raises
    ------
    NoTruthFor
        An image has no mask.
    NothingToScore, NoMask, CouldNotTell
        There are no masks, or one cannot be read as a label mask.
    """
    if truth is None:
        return {}
    if len(images) == 1 and _is_one(truth) and len(_masks_in(truth)) == 1:
        return {images[0]: _true_mask(truth, images[0], components=components)}
    files = masks_by_name(truth)
    masks = {}
    for image in images:
        file = files.get(mask_name(image))
        if file is None:
            raise NoTruthFor(image, truth)
        masks[image] = _true_mask(file, image, components=components)
    return masks


def _true_mask(file: Path, image: Path, *, components: bool | None) -> AnyArray:
    """Read the true mask of an image; outlines are drawn at the size of the image."""
    if not is_shape_file(file):
        return read_mask(file, components=components)
    sizes = _named(inspect_image(image)).sizes
    shape = tuple(sizes[axis] for axis in "tzyx" if axis in "yx" or sizes.get(axis, 1) > 1)
    return read_mask(file, shape=shape)


def _images_in(file: Path) -> tuple[Path, ...]:
    return (file,) if is_shape_file(file) else series_paths(file)


def _masks_in(file: Path) -> tuple[Path, ...]:
    paths = _images_in(file)
    # the dataset of an HDF5 file that contains the labels is chosen elsewhere
    return (file,) if any(split_series(path)[1].startswith("/") for path in paths) else paths


def _files(place: Path) -> Iterator[Path]:
    if is_many(place):
        # other outputs of bmz run, next to its label masks
        others = tuple(kind.ending for kind in OUTPUT_KINDS.values() if kind.is_image)
        inside = [path for path in sorted(place.iterdir()) if not path.name.endswith(others)]
        masks = [path for path in inside if path.name.lower().endswith(_EXACT)]
        shapes = [path for path in inside if path.name.lower().endswith(SHAPE_ENDINGS)]
        # for a folder of only lossy images, the error reports that rather than an empty folder
        lossy = [path for path in inside if path.name.lower().endswith(_LOSSY)]
        yield from masks or shapes or lossy
    elif _is_one(place):
        yield place
    else:
        anchor = Path(place.anchor)
        pattern = str(place.relative_to(anchor)) if place.anchor else str(place)
        yield from sorted(anchor.glob(pattern))


class NoMask(CouldNotTell):
    """An image cannot be a label mask."""

    def __init__(
        self,
        path: Path,
        why: str,
        hint: str = "a label mask has one whole number per object, 0 for background",
        code: str = "score.no-mask",
    ) -> None:
        super().__init__(f"'{path}' is not a label mask: {why}", hint=hint, code=code)


def read_mask_pair(
    first: Path, second: Path, *, components: bool | None = None
) -> tuple[AnyArray, AnyArray]:
    """Read two label masks of the same image with `read_mask`.

    A file of outlines does not record the image size, so it is drawn at the size of the other mask;
    two such files are drawn at a size that fits both.
    """
    outlines = [is_shape_file(path) for path in (first, second)]
    if all(outlines):
        sizes = [read_shapes(path).sizes() for path in (first, second)]
        both = tuple(max(sides) for sides in zip(*(s.values() for s in sizes), strict=True))
        return np.squeeze(_drawn(first, both)), np.squeeze(_drawn(second, both))
    if outlines[0]:
        mask = read_mask(second, components=components)
        return _drawn(first, mask.shape), mask
    mask = read_mask(first, components=components)
    shape = mask.shape if outlines[1] else None
    return mask, read_mask(second, components=components, shape=shape)


def _drawn(path: Path, shape: tuple[int, ...] | None) -> AnyArray:
    """Draw the mask of a file of outlines.

    Raises
    ------
    NoMask
        It has no objects with an area, or they lie outside a mask of this shape.
    """
    found = read_shapes(path)
    if not any(shape.has_area for shape in found.shapes):
        raise NoMask(path, "it contains points or lines, but no outlines of objects")
    sizes = found.sizes()
    if shape is None:
        return np.squeeze(painted(found.shapes, sizes))
    missing = len(sizes) - len(shape)
    if missing > 0:  # drop those of t and z that the shapes do not need
        dropped = sorted("tz", key=lambda axis: (sizes[axis] > 1, axis))[:missing]
        sizes = {axis: size for axis, size in sizes.items() if axis not in dropped}
    if len(sizes) != len(shape) or any(n > m for n, m in zip(sizes.values(), shape, strict=True)):
        there = " x ".join(map(str, sizes.values()))
        why = f"its objects need an image of {there} px, but the other mask has {shape}"
        raise NoMask(path, why, "give the outlines and the mask of the same image", "score.shapes")
    return painted(found.shapes, dict(zip(sizes, shape, strict=True)))


def read_mask(
    path: Path, *, components: bool | None = None, shape: tuple[int, ...] | None = None
) -> AnyArray:
    """Read a label mask; the order of its axes does not affect the score.

    In an image with a palette, the palette indices are the labels. Outlines are drawn.

    Parameters
    ----------
    path : a file, an OME-Zarr folder, labels inside one (``x.zarr/labels/nuclei``), or outlines
    components : for a mask that does not number its objects (a foreground, a few classes,
        colours), True numbers its connected pieces, False takes its values as object numbers, and
        None refuses it
    shape : shape of the mask that outlines are drawn into; None for the smallest that fits them

    Returns
    -------
    array
        integers, with axes in the order of the file, without those of size 1

    Raises
    ------
    NoMask
        It is an ordinary image, is lossy or in colour, does not number its objects, or contains
        fractions or negative numbers.
    CouldNotTell
        It cannot be read.
    """
    if is_shape_file(path):
        return _drawn(path, shape)
    _refuse_pictures(path)
    frames = False
    mask = palette_numbers(path)
    if mask is None:
        info = _named(inspect_image(path))
        if info.series_count > 1 and not info.series_key:
            named = ", ".join(map(str, series_paths(path)))
            why = f"it contains {info.series_count} images"
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
        raise NoMask(path, "it is an image that contains label masks", f"name one: {places}")


def _named(info: ImageInfo) -> ImageInfo:
    if UNKNOWN_AXIS not in info.axes:
        return info
    return replace(info, axes="tczyx"[-len(info.shape) :])


def _without_colours(path: Path, pixels: AnyArray, *, refuse: bool) -> AnyArray:
    """Return one number per colour, with black as 0; a grey image keeps its values."""
    first = pixels[..., :1]
    if (pixels == first).all():
        return pixels[..., 0]
    if refuse:
        why = "it is a colour picture, and a colour is not a label"
        hint = "save the labels themselves, or use --components to number the pieces of each colour"
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
        raise NoMask(path, f"it contains {mask.min()}, which is below 0")
    return mask


def _is_unnumbered(path: Path, mask: AnyArray, *, refuse: bool) -> bool:
    """Return whether the mask does not number its objects.

    Raises
    ------
    NoMask
        It does not number them, and `refuse` is set or it has too many values to be classes.
    """
    if mask.ndim < len("yx"):
        return False
    value, numbers = only_value(mask), pieces_of_planes(mask)
    if value is not None:
        # a single object may be split by the planes of a stack, or have lost a few pixels
        sure = value == _LARGEST_8_BIT
        pieces = piece_count(mask, 0.0 if sure else LEAST_SHARE)
        count = pieces if numbers.pieces > numbers.values else 1
        if refuse or count == 1:
            _refuse_ground(path, mask, value)
        why = f"its only number, {value}, occurs in {count} separate pieces: it separates "
        why += "objects from background, but not from each other"
    else:
        count = numbers.pieces if _is_scattered(numbers) else 1
        why = f"{numbers.values} numbers occur in {count} separate pieces: they are classes or "
        why += "intensities, not objects"
    few = value is not None or (numbers.values <= MOST_CLASSES and not _is_soft(numbers))
    if count > 1 and (refuse or not few):
        offer = "--components gives each piece a number; " * few
        hint = f"{offer}--no-components takes its numbers as they are"
        raise NoMask(path, why, hint, "score.foreground" if few else "score.no-mask")
    return count > 1


def _refuse_ground(path: Path, mask: AnyArray, value: int) -> None:
    count = max(holes(plane) for plane in mask.reshape(-1, *mask.shape[-2:]))
    if count > 1:
        why = f"its only number, {value}, surrounds {count} holes: it separates background from "
        why += "objects, or touching objects from background, but not objects from each other"
        hint = "invert it, or label it first; --no-components takes its numbers as they are"
        raise NoMask(path, why, hint, "score.foreground")


def _is_scattered(numbers: Pieces) -> bool:
    return numbers.pieces >= SCATTERED * max(numbers.values, 1) or _is_soft(numbers)


def _is_soft(numbers: Pieces) -> bool:
    many_specks = numbers.pieces >= SOFT * numbers.values and 2 * numbers.specks > numbers.pieces
    return many_specks and numbers.left_out > 0


def write_masks(comparison: Comparison, folder: Path) -> None:
    """Write the label mask of every result, named after the image, the rank and the result.

    Raises
    ------
    FolderNotWritable
        The folder cannot be written to.
    """
    writable_folder(folder)
    for image in comparison.images:
        for rank, result in enumerate(image.done, start=1):
            name = re.sub(r"[^\w.=-]+", "_", result.name).strip("_")[:80]
            if result.labels is not None:
                file = f"{stem_of(image.path)}.{rank:02d}.{name}.labels.tif"
                write_labels(folder / file, result.labels)
