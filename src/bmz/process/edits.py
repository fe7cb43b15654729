"""Corrections of a label mask by hand: objects deleted, merged, split and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass

_TWO, _CORNERS = 2, 3

Point = tuple[float, float]
"""(y, x), px of the plane."""


class EditRefused(WrongUsage):
    """A correction changes nothing, or cannot be told."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(
            f"'{kind}' cannot correct the mask: {why}",
            hint="undo it, or choose another place",
            code="edit.refused",
        )


@dataclass(frozen=True)
class Edit:
    """One correction.

    Parameters
    ----------
    kind : one of `EDITS`
    points : where, (y, x) px of the image
    at : position along t and z of the plane in which it was made
    """

    kind: str
    points: tuple[Point, ...]
    at: Mapping[str, int]

    def moved(self, top: int, left: int) -> Edit:
        """Return it for a part of the image that begins at (top, left) px."""
        points = tuple((y - top, x - left) for y, x in self.points)
        return Edit(self.kind, points, self.at)


def edited(labels: AnyArray, edits: Iterable[tuple[Edit, tuple[int, ...]]]) -> AnyArray:
    """Correct a label mask; the mask that is given stays as it is.

    Parameters
    ----------
    labels : (..., y, x) integers, 0 background
    edits : each with the position of its plane along the axes before y and x

    Returns
    -------
    ndarray
        of the same shape, int64; new objects have new numbers, all others keep theirs

    Raises
    ------
    EditRefused
        There is no such correction, or it does nothing if it is made.
    """
    changed = labels.astype(np.int64)
    for edit, plane in edits:
        if edit.kind not in EDITS:
            raise EditRefused(edit.kind, f"it is not one of {', '.join(EDITS)}")
        EDITS[edit.kind](changed, changed[plane], edit.points)
    return changed


def _at(plane: AnyArray, points: Sequence[Point]) -> AnyArray:
    """Return the label at each point that lies in the plane, without background."""
    places = np.floor(np.array(points, np.float64).reshape(-1, 2)).astype(np.int64)
    inside = ((places >= 0) & (places < plane.shape)).all(1)
    numbers: AnyArray = plane[tuple(places[inside].T)]
    return numbers[numbers > 0]


def _delete(whole: AnyArray, plane: AnyArray, points: Sequence[Point]) -> None:
    numbers = _at(plane, points)
    if not len(numbers):
        raise EditRefused("delete", "there is no object here")
    whole[np.isin(whole, numbers)] = 0


def _merge(whole: AnyArray, plane: AnyArray, points: Sequence[Point]) -> None:
    numbers = list(dict.fromkeys(_at(plane, points).tolist()))
    if len(numbers) < _TWO:
        raise EditRefused("merge", "two objects are needed")
    whole[np.isin(whole, numbers[1:])] = numbers[0]


def _split(whole: AnyArray, plane: AnyArray, points: Sequence[Point]) -> None:
    from scipy import ndimage  # here: few masks are corrected

    line = _drawn_line(plane.shape, points)
    crossed = plane[line & (plane > 0)]
    if not crossed.size:
        raise EditRefused("split", "the line crosses no object")
    mask = plane == np.bincount(crossed).argmax()
    pieces, count = ndimage.label(mask & ~line)
    if count < _TWO:
        raise EditRefused("split", "the line does not cross the object from edge to edge")
    # pixels of the line go to the piece that is nearest
    near = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    pieces = np.where(mask, pieces[tuple(near)], 0)
    largest = np.bincount(pieces[mask]).argmax()
    for piece in range(1, count + 1):
        if piece != largest:
            plane[pieces == piece] = whole.max() + 1


def _drawn_line(shape: tuple[int, ...], points: Sequence[Point]) -> BoolArray:
    """Draw a line of points; pieces on both sides of it share no side of a pixel."""
    from skimage.draw import line

    drawn = np.zeros(shape, np.bool_)
    corners = [(int(np.floor(y)), int(np.floor(x))) for y, x in points]
    for start, stop in pairwise(corners):
        rows, columns = line(*start, *stop)
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        drawn[rows[inside], columns[inside]] = True
    return drawn


def _draw(whole: AnyArray, plane: AnyArray, points: Sequence[Point]) -> None:
    from skimage.draw import polygon

    if len(points) < _CORNERS:
        raise EditRefused("draw", "a line around an object needs at least three points")
    corners = np.array(points, np.float64).reshape(-1, 2)
    rows, columns = polygon(corners[:, 0], corners[:, 1], plane.shape)
    free = plane[rows, columns] == 0
    if not free.any():
        raise EditRefused("draw", "the line encloses no background")
    plane[rows[free], columns[free]] = whole.max() + 1


EDITS: Mapping[str, Callable[[AnyArray, AnyArray, Sequence[Point]], None]] = {
    "delete": _delete,
    "merge": _merge,
    "split": _split,
    "draw": _draw,
}
"""By name: changes the whole mask, of which the plane is a part, in place."""
