"""``bmz score``: how well label masks agree with the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bmz.app.score.label_mask import read_mask
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.base.files import is_there
from bmz.base.progress import Listener, Progress, nobody
from bmz.image.known_formats import suffixes
from bmz.image.ome_zarr import is_node
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors
from bmz.results.compare import IOUS, MaskPair, PairFailed, PairScore, ScoreSummary
from bmz.write.outputs import OUTPUT_KINDS

_ENDING = re.compile(
    r"([._-](cp_)?(labels?|masks?|seg|gt|truth|predicted|prediction))?"
    rf"(\.ome)?({'|'.join(map(re.escape, suffixes()))})$",
    re.IGNORECASE,
)
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
            f"'{truth}' holds no mask with the name of '{image.name}'",
            hint="true masks bear the names of their images, before endings such as _mask.png",
            code="compare.no-truth",
        )


def score(
    predicted: Path,
    truth: Path,
    *,
    ious: Sequence[float] = IOUS,
    components: bool | None = None,
    listener: Listener = nobody,
) -> ScoreSummary:
    """Score one mask, or all masks of a folder or pattern, against the truth.

    Parameters
    ----------
    predicted, truth : a file, a folder, or a pattern such as ``results/*.labels.tif``
    ious : thresholds, each above 0 and at most 1
    components : of masks that do not number their objects, see `bmz.app.score.label_mask.read_mask`
    listener : is called for each file as it is done

    Raises
    ------
    NothingToScore
        A path names no mask, or no names agree.
    """
    pairs = paired(predicted, truth)
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
    if is_there(predicted) and is_there(truth) and not is_many(predicted) and not is_many(truth):
        return (MaskPair(predicted.name, predicted, truth),)
    predicted_files, true_files = masks_by_name(predicted), masks_by_name(truth)
    if not set(predicted_files) & set(true_files):
        raise NothingToScore(f"no mask of '{predicted}' has the name of one of '{truth}'")
    names = {*predicted_files, *true_files}
    for path, files in ((predicted, predicted_files), (truth, true_files)):
        if is_there(path) and not is_many(path):
            names &= set(files)
    return tuple(
        MaskPair(name, predicted_files.get(name), true_files.get(name)) for name in sorted(names)
    )


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
    """
    inside = path.parent.name == "labels" and path.parents[1].suffix == ".zarr"
    return _ENDING.sub("", path.parents[1].name if inside else path.name)


def masks_by_name(place: Path) -> Mapping[str, Path]:
    """Give the masks of a folder or a pattern by their names.

    Raises
    ------
    NothingToScore
        There is none, or two have one name.
    """
    files: dict[str, Path] = {}
    for path in _files(place):
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
    if len(images) == 1 and not is_many(truth):
        return {images[0]: read_mask(truth, components=components)}
    files = masks_by_name(truth)
    masks = {}
    for image in images:
        file = files.get(mask_name(image))
        if file is None:
            raise NoTruthFor(image, truth)
        masks[image] = read_mask(file, components=components)
    return masks


def _files(place: Path) -> Iterator[Path]:
    if is_many(place):
        # of bmz run, beside its label masks
        others = tuple(k.ending for n, k in OUTPUT_KINDS.items() if k.is_image and n != "labels")
        inside = [path for path in sorted(place.iterdir()) if not path.name.endswith(others)]
        masks = [path for path in inside if path.name.lower().endswith(_EXACT)]
        # of a folder of lossy pictures alone the message says so, and not that it is empty
        yield from masks or [path for path in inside if path.name.lower().endswith(_LOSSY)]
    elif is_there(place):
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
