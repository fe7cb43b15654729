"""Agreement of a mask with a user's judgements of objects and masks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.process.consensus import IOU, f1_between

REPEATED = 0.9
"""Minimum F1 at IoU 0.5 at which a mask repeats one that was judged wrong."""

_WRITTEN = re.compile(r"(\d+) (\d+) (\d+) (\d+): (\d+(?: \d+)*)")


class ObjectGone(CouldNotTell):
    """A mask has no object of a given label, for example after a change of the settings."""

    def __init__(self, label: int) -> None:
        super().__init__(f"there is no object {label}", hint="select it again", code="open.object")


@dataclass(frozen=True, eq=False)
class Place:
    """Judged part of a plane: an object, or a mask of a part of the plane.

    Parameters
    ----------
    top, left : position of the first pixel of `labels`, px of the image
    labels : (y, x) integers, 0 background; 0 and 1 for an object
    """

    top: int
    left: int
    labels: AnyArray

    @property
    def box(self) -> tuple[slice, slice]:
        """Slices of the plane that `labels` covers."""
        height, width = self.labels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def object_of(plane: AnyArray, label: int, corner: tuple[int, int] = (0, 0)) -> Place:
    """Return one object of a mask with its position.

    Parameters
    ----------
    plane : (y, x) integers
    label : label of the object
    corner : (y, x) position of the first pixel of the plane, px of the image

    Raises
    ------
    ObjectGone
        There is no such object.
    """
    rows, columns = np.nonzero(plane == label)
    if not len(rows):
        raise ObjectGone(label)
    (top, bottom), (left, right) = ((n.min(), n.max() + 1) for n in (rows, columns))
    inside = plane[top:bottom, left:right] == label
    return Place(int(top) + corner[0], int(left) + corner[1], inside.astype(np.uint8))


def written(place: Place) -> str:
    """Return an object as text: ``top left height width: runs``.

    Runs are the lengths of alternating runs of pixels outside and inside, row by row, px.
    """
    flat = place.labels.ravel() > 0
    ends = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0)).tolist()
    runs = np.diff([0, *ends, flat.size]).tolist()
    height, width = place.labels.shape
    return f"{place.top} {place.left} {height} {width}: {' '.join(map(str, runs))}"


def read_object(text: str) -> Place:
    """Read an object from text in the format of `written`.

    Raises
    ------
    ValueError
        The text is not of this form.
    """
    parts = _WRITTEN.fullmatch(text)
    if parts is None:
        raise ValueError(f"'{text[:40]}' is not an object")
    top, left, height, width = map(int, parts.groups()[:4])
    runs = np.array(parts[5].split(), np.int64)
    if runs.sum() != height * width:
        raise ValueError(f"the runs of an object of {height} x {width} px are {runs.sum()} px long")
    flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return Place(top, left, flat.reshape(height, width))


@dataclass(frozen=True)
class Judged:
    """Agreement of a mask with judgements.

    Parameters
    ----------
    right, found : number of judgements "right", and how many of them the mask fulfils
    wrong, repeated : number of judgements "wrong", and how many of them the mask repeats
    """

    right: int
    found: float
    wrong: int
    repeated: float

    def __add__(self, other: Judged) -> Judged:
        """Add up the judgements of two planes."""
        return Judged(
            self.right + other.right,
            self.found + other.found,
            self.wrong + other.wrong,
            self.repeated + other.repeated,
        )

    @property
    def f1(self) -> float | None:
        """Return 2 TP / (2 TP + FN + FP) over all judgements.

        TP is `found`, FN is ``right - found`` and FP is `repeated`, so that a mask without objects
        scores 0. None if nothing was judged right, since the best mask would then be the one with
        the fewest objects.
        """
        return 2 * self.found / (self.found + self.right + self.repeated) if self.right else None


def has_object(plane: AnyArray, place: Place, areas: AnyArray) -> bool:
    """Return whether a mask has an object whose IoU with the given one is at least 0.5.

    Parameters
    ----------
    plane : (y, x) integers, the whole plane
    place : the given object
    areas : area of each label of the plane, px
    """
    inside: BoolArray = place.labels > 0
    shared = np.bincount(plane[place.box][inside].ravel(), minlength=1)
    shared[0] = 0
    own, others = int(inside.sum()), areas[: len(shared)]
    return bool(np.any(shared / (own + others - shared) >= IOU))


def agreement_in(
    plane: AnyArray,
    objects: Sequence[tuple[Place, bool]],
    masks: Sequence[tuple[Place, bool]],
) -> Judged:
    """Measure how far the mask of a plane agrees with the judgements in it.

    An object counts 1 if the mask has it, and 0 if not. A mask that was judged right counts by
    its F1 at IoU 0.5; one that was judged wrong is repeated if this F1 is at least `REPEATED`.

    Parameters
    ----------
    plane : (y, x) integers, 0 background
    objects, masks : judged parts, and whether each was judged right
    """
    areas = np.bincount(plane.ravel(), minlength=1)
    has = [(float(has_object(plane, place, areas)), right) for place, right in objects]
    for place, right in masks:
        f1 = f1_between(plane[place.box], place.labels)
        has.append((f1 if right else float(f1 >= REPEATED), right))
    rights, wrongs = ([share for share, right in has if right is kind] for kind in (True, False))
    return Judged(len(rights), sum(rights), len(wrongs), sum(wrongs))
