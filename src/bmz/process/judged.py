"""How far a mask agrees with what a user said of objects and masks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.process.consensus import IOU, f1_between

REPEATED = 0.9
"""F1 at IoU 0.5 from which on a mask is the same as one that was judged wrong."""

_WRITTEN = re.compile(r"(\d+) (\d+) (\d+) (\d+): (\d+(?: \d+)*)")


class ObjectGone(CouldNotTell):
    """A mask has no object of a number, such as after a change of the settings."""

    def __init__(self, label: int) -> None:
        super().__init__(f"there is no object {label}", hint="select it again", code="open.object")


@dataclass(frozen=True, eq=False)
class Place:
    """What of a plane was judged: an object, or a mask that lies in a part of it.

    Parameters
    ----------
    top, left : px of the image at which `labels` begins
    labels : (y, x) integers, 0 background; of an object it is 0 and 1
    """

    top: int
    left: int
    labels: AnyArray

    @property
    def box(self) -> tuple[slice, slice]:
        """Where it lies in the plane."""
        height, width = self.labels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def object_of(plane: AnyArray, label: int, corner: tuple[int, int] = (0, 0)) -> Place:
    """Take an object out of a mask.

    Parameters
    ----------
    plane : (y, x) integers
    label : of the object
    corner : px of the image at which the plane begins, (y, x)

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
    """Write an object as text: ``top left height width: runs``.

    Runs are the lengths of what lies outside and inside by turns, row by row, px.
    """
    flat = place.labels.ravel() > 0
    ends = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0)).tolist()
    runs = np.diff([0, *ends, flat.size]).tolist()
    height, width = place.labels.shape
    return f"{place.top} {place.left} {height} {width}: {' '.join(map(str, runs))}"


def read_object(text: str) -> Place:
    """Read an object that `written` has written.

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
    """How far a mask agrees with judgements.

    Parameters
    ----------
    right, found : what was judged right, and how much of it the mask has
    wrong, repeated : what was judged wrong, and how much of it the mask repeats
    """

    right: int
    found: float
    wrong: int
    repeated: float

    def __add__(self, other: Judged) -> Judged:
        """Count what was judged in two planes together."""
        return Judged(
            self.right + other.right,
            self.found + other.found,
            self.wrong + other.wrong,
            self.repeated + other.repeated,
        )

    @property
    def f1(self) -> float | None:
        """Return 2 TP / (2 TP + FN + FP) over what was judged.

        TP is what is found of what is right, FN what is not, FP what is repeated of what is wrong;
        so a mask without objects has 0. None where nothing was judged right, for then a mask is
        better the fewer objects it has.
        """
        return 2 * self.found / (self.found + self.right + self.repeated) if self.right else None


def has_object(plane: AnyArray, place: Place, areas: AnyArray) -> bool:
    """Return whether an object of a mask overlaps a given one with an IoU of 0.5 or more.

    Parameters
    ----------
    plane : (y, x) integers, the whole plane
    place : of the object
    areas : of each label of the plane, px
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
    """Measure how far the mask of a plane agrees with what was judged in it.

    An object counts as a whole. A mask that was judged right counts by the F1 at IoU 0.5 with it;
    one that was judged wrong is repeated from `REPEATED` on.

    Parameters
    ----------
    plane : (y, x) integers, 0 background
    objects, masks : places, and whether they were judged right
    """
    areas = np.bincount(plane.ravel(), minlength=1)
    has = [(float(has_object(plane, place, areas)), right) for place, right in objects]
    for place, right in masks:
        f1 = f1_between(plane[place.box], place.labels)
        has.append((f1 if right else float(f1 >= REPEATED), right))
    rights, wrongs = ([share for share, right in has if right is kind] for kind in (True, False))
    return Judged(len(rights), sum(rights), len(wrongs), sum(wrongs))
