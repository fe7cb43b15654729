"""Read a user's judgements of the images of a comparison, and score its results by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from bmz.base.errors import WrongUsage
from bmz.image.pixels import Pixels
from bmz.process.judged import Judged, agreement_in
from bmz.results.compare import SettingResult
from bmz.write.judgements import Judgement, JudgementsUnreadable, read_judgements


def judgements_of(file: Path | None, images: Sequence[Path]) -> dict[Path, list[Judgement]]:
    """Read the judgements of the images, which are identified by file name.

    Parameters
    ----------
    file : ``judgements.csv`` of ``bmz open``; None for none
    images : the images that are compared

    Returns
    -------
    dict
        image -> its judgements, in the order of the table; without images that have none

    Raises
    ------
    JudgementsUnreadable
        The file is not such a table, has no judgement of any of the images, or has judgements of
        a name that several images share.
    """
    if file is None:
        return {}
    judgements = read_judgements(file)
    names = Counter(image.name for image in images)
    judged = {one.image for one in judgements}
    if twice := sorted(name for name in judged if names[name] > 1):
        hint = "compare the images of one folder at a time"
        raise JudgementsUnreadable(file, f"several of the images are called {twice[0]}", hint)
    if not judged & set(names):
        hint = "give the images that were judged"
        raise JudgementsUnreadable(file, "none of its judgements is of one of the images", hint)
    return {
        image: [one for one in judgements if one.image == image.name]
        for image in images
        if image.name in judged
    }


class JudgedElsewhere(WrongUsage):
    """A judged place lies outside an image."""

    def __init__(self, image: str) -> None:
        super().__init__(
            f"what was judged of '{image}' lies beyond the image of that name",
            hint="give the images that were judged, and the same --axes",
            code="compare.judged-elsewhere",
        )


def with_judgements(result: SettingResult, judgements: Iterable[Judgement]) -> SettingResult:
    """Add the agreement of a result with the judgements of its image; unchanged without any.

    A judgement applies to the plane along t and z in which it was made.

    Raises
    ------
    JudgedElsewhere
        A judged place lies outside the mask.
    """
    ordered = sorted(judgements, key=_place_of)
    if result.labels is None or not ordered:
        return result
    parts = [_agreement(result.labels, list(own)) for _, own in groupby(ordered, _place_of)]
    whole = sum(parts[1:], start=parts[0])
    return replace(result, quality=replace(result.quality, judged=whole))


def _place_of(judgement: Judgement) -> tuple[int, int]:
    return judgement.at.get("t", 0), judgement.at.get("z", 0)


def _agreement(labels: Pixels, judgements: Sequence[Judgement]) -> Judged:
    """Compute the agreement of a mask with the judgements of one plane."""
    first = judgements[0]
    at = {axis: first.at.get(axis, 0) for axis in labels.axes if axis in "tz"}
    if any(at.get(axis, 0) != n for axis, n in first.at.items()):
        raise JudgedElsewhere(first.image)
    if any(n >= labels.sizes[axis] for axis, n in at.items()):
        raise JudgedElsewhere(first.image)
    plane = labels.part(at).transposed("yx").array
    for one in judgements:
        if any(part.stop > size for part, size in zip(one.place.box, plane.shape, strict=True)):
            raise JudgedElsewhere(one.image)
    objects = [(one.place, one.right) for one in judgements if one.values]
    masks = [(one.place, one.right) for one in judgements if not one.values]
    return agreement_in(plane, objects, masks)
