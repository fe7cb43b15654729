"""``bmz score``: how well label masks agree with the truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.app.score.label_mask import read_mask
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.base.files import is_there
from bmz.base.progress import Listener, Progress, nobody
from bmz.image.formats import name_of, split_series
from bmz.image.known_formats import suffixes
from bmz.image.ome_zarr import is_node
from bmz.image.series import in_dataset, series_paths
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors
from bmz.results.compare import IOUS, MaskPair, PairFailed, PairScore, ScoreSummary
from bmz.write.outputs import OUTPUT_KINDS

_ENDING = re.compile(
    r"([._-](cp_)?(labels?|masks?|seg|gt|truth|predicted|prediction))?"
    rf"(\.ome)?({'|'.join(map(re.escape, suffixes()))})$",
    re.IGNORECASE,
)
_DATASET = re.compile(r"\[[^\[\]]+\]$")
_LOSSY, _EXACT = suffixes(lossy=True), suffixes(lossy=False)


class NothingToScore(WrongUsage):
    """The paths name no masks, or none that belong together."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            hint="give two files, or two folders whose masks have equal names before endings "
            "such as .labels.tif, _mask.png",
            code="score.nothing",
        )


class NoTruthFor(CouldNotTell):
    """There is no true mask for an image."""

    def __init__(self, image: Path, truth: Path) -> None:
        super().__init__(
            f"'{truth}' holds no mask with the name of '{name_of(image)}'",
            hint="true masks bear the names of their images, before endings such as _mask.png",
            code="compare.no-truth",
        )


def score(
    predicted: Path,
    truth: Path,
    *,
    ious: Sequence[float] = IOUS,
    components: bool | None = None,
    dataset: str | None = None,
    listener: Listener = nobody,
) -> ScoreSummary:
    """Score one mask, or all masks of a folder or pattern, against the truth.

    Parameters
    ----------
    predicted, truth : a file, a folder, or a pattern such as ``results/*.labels.tif``
    ious : thresholds, each above 0 and at most 1
    components : of masks that do not number their objects, see `bmz.app.score.label_mask.read_mask`
    dataset : the dataset of HDF5 files that holds the labels; None for the only one that can
    listener : is called for each file as it is done

    Raises
    ------
    NothingToScore
        A path names no mask, or no names agree.
    """
    pairs = _in_dataset(paired(predicted, truth), dataset)
    outcomes: list[PairScore | PairFailed] = []
    for number, pair in enumerate(pairs, start=1):
        outcomes.append(_scored(pair, ious, components=components))
        listener(Progress("files", number, len(pairs), pair.name))
    return ScoreSummary(str(predicted), str(truth), tuple(outcomes))


def paired(predicted: Path, truth: Path) -> tuple[MaskPair, ...]:
    """Put masks together by name: all before an ending such as ``.labels.tif`` or ``_mask.png``.

    A mask without a partner is a pair of which one side is None; beside a single file all other
    masks are left out.

    Raises
    ------
    NothingToScore
        A path names no mask, two masks have one name, or no names agree.
    """
    if _is_one(predicted) and _is_one(truth):
        return _of_two_files(predicted, truth)
    predicted_files, true_files = masks_by_name(predicted), masks_by_name(truth)
    predicted_files = _without_datasets(predicted_files, true_files)
    if not set(predicted_files) & set(true_files):
        raise NothingToScore(f"no mask of '{predicted}' has the name of one of '{truth}'")
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
    """Pair the masks of two files: those of files that hold several, by their names in them."""
    first, second = series_paths(predicted), series_paths(truth)
    if len(first) == len(second) == 1:
        return (MaskPair(name_of(predicted), first[0], second[0]),)
    by_key = [{split_series(path)[1]: path for path in paths} for paths in (first, second)]
    if len(first) == len(second) and any(all(map(str.isdecimal, keys)) for keys in by_key):
        # one of the files calls its masks by their places alone
        by_key[1] = dict(zip(by_key[0], second, strict=True))
    if not set(by_key[0]) & set(by_key[1]):
        several = predicted if len(first) > 1 else truth
        raise NothingToScore(
            f"'{several}' holds several masks, none of which has the name of one of the other: "
            f"{', '.join(map(str, series_paths(several)))}"
        )
    names = dict.fromkeys([*by_key[0], *by_key[1]])
    return tuple(MaskPair(name, by_key[0].get(name), by_key[1].get(name)) for name in names)


def _without_datasets(files: Mapping[str, Path], others: Mapping[str, Path]) -> Mapping[str, Path]:
    """Give results of one dataset of a file (``a[raw]``) the name of the file, where it is free."""
    plain = {name: _DATASET.sub("", name) for name in files}
    counts = Counter(plain.values())
    return {
        plain[name] if name not in others and counts[plain[name]] == 1 else name: path
        for name, path in files.items()
    }


def _in_dataset(pairs: Sequence[MaskPair], dataset: str | None) -> list[MaskPair]:
    paths = [path for pair in pairs for path in (pair.predicted, pair.truth) if path is not None]
    named: dict[Path | None, Path | None] = {None: None}
    named |= dict(zip(paths, in_dataset(paths, dataset), strict=True))
    return [replace(p, predicted=named[p.predicted], truth=named[p.truth]) for p in pairs]


def is_many(path: Path) -> bool:
    """Say whether a path names a folder of masks, and no OME-Zarr."""
    return is_there(path) and path.is_dir() and path.suffix != ".zarr" and not is_node(path)


def mask_name(path: Path) -> str:
    """Give what the names of partners share: all before an ending such as ``_mask.png``.

    Labels in an OME-Zarr image have the name of the image.

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
    # the mask of an image in an HDF5 file is called like the file, as others have no datasets
    return f"{name}[{key}]" if key and not key.startswith("/") else name


def masks_by_name(place: Path) -> Mapping[str, Path]:
    """Give the masks of a folder or a pattern by their names.

    Each mask of a file that holds several has a name of its own, such as ``a[left]``.

    Raises
    ------
    NothingToScore
        There is none, or two have one name.
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
    truth : a mask of the only image, or a folder of masks with the names of the images; None for
        no masks
    components : of masks that do not number their objects, see `bmz.app.score.label_mask.read_mask`

    Raises
    ------
    NoTruthFor
        An image has no mask.
    NothingToScore, NoMask, CouldNotTell
        There are no masks, or one cannot be read as such.
    """
    if truth is None:
        return {}
    if len(images) == 1 and _is_one(truth) and len(_masks_in(truth)) == 1:
        return {images[0]: read_mask(truth, components=components)}
    files = masks_by_name(truth)
    masks = {}
    for image in images:
        file = files.get(mask_name(image))
        if file is None:
            raise NoTruthFor(image, truth)
        masks[image] = read_mask(file, components=components)
    return masks


def _masks_in(file: Path) -> tuple[Path, ...]:
    paths = series_paths(file)
    # which dataset of an HDF5 file holds the labels is said otherwise
    return (file,) if any(split_series(path)[1].startswith("/") for path in paths) else paths


def _files(place: Path) -> Iterator[Path]:
    if is_many(place):
        # of bmz run, beside its label masks
        others = tuple(k.ending for n, k in OUTPUT_KINDS.items() if k.is_image and n != "labels")
        inside = [path for path in sorted(place.iterdir()) if not path.name.endswith(others)]
        masks = [path for path in inside if path.name.lower().endswith(_EXACT)]
        # of a folder of lossy pictures alone the message says so, and not that it is empty
        yield from masks or [path for path in inside if path.name.lower().endswith(_LOSSY)]
    elif _is_one(place):
        yield place
    else:
        anchor = Path(place.anchor)
        pattern = str(place.relative_to(anchor)) if place.anchor else str(place)
        yield from sorted(anchor.glob(pattern))


def _scored(
    pair: MaskPair, ious: Sequence[float], *, components: bool | None
) -> PairScore | PairFailed:
    if pair.predicted is None or pair.truth is None:
        return PairFailed(pair, None)
    try:
        predicted = read_mask(pair.predicted, components=components)
        truth = read_mask(pair.truth, components=components)
        if predicted.shape != truth.shape:
            raise ShapesDiffer(predicted.shape, truth.shape)
        overlap = Overlap.of(predicted, truth)
        matchings = tuple(overlap.matching(iou) for iou in ious)
        return PairScore(pair, tuple(ious), matchings, mask_errors(predicted, truth))
    except BmzError as why:
        return PairFailed(pair, why)
