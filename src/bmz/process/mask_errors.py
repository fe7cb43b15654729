"""What went wrong in a label mask, object by object: splits, merges, missed and false objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.process.matching import Overlap
from bmz.process.relabel import in_raster_order

INSIDE = 0.5
"""An object is part of another one when more than this share of it lies there."""

Kind = Literal["split", "merge", "missed", "false"]


@dataclass(frozen=True)
class MaskError:
    """One object that has no partner, and why.

    Parameters
    ----------
    kind : ``split``: a true object lies in pieces; ``merge``: a predicted object holds several
        true ones; ``missed``: a true object has nothing; ``false``: a predicted object has nothing
    label : of the object as numbered in its mask (of the true one for ``split`` and ``missed``)
    centroid : along each axis of the mask, px
    area_px : of the object
    parts : labels, in the other mask, of the pieces or of the objects that were merged
    """

    kind: Kind
    label: int
    centroid: tuple[float, ...]
    area_px: int
    parts: tuple[int, ...] = ()


def mask_errors(predicted: AnyArray, truth: AnyArray, iou: float = 0.5) -> tuple[MaskError, ...]:
    """List the objects without a partner, the largest first.

    A true object without a partner is split when two or more predicted objects without one lie
    in it for more than half; the reverse is a merge. What is left is missed or false. Pieces and
    merged objects are told with their whole, not again by themselves.

    Source: the kinds of error of Caicedo et al. 2019 (doi 10.1002/cyto.a.23863).

    Parameters
    ----------
    predicted, truth : integers of one shape, 0 background
    iou : from which two objects are partners
    """
    overlap = Overlap.of(predicted, truth)
    matched = overlap.matched(iou)
    free_p = np.setdiff1d(np.arange(len(overlap.predicted_px)), overlap.predicted[matched])
    free_t = np.setdiff1d(np.arange(len(overlap.truth_px)), overlap.truth[matched])
    names_p, names_t = _Named.of(predicted), _Named.of(truth)
    p, t, shared = overlap.predicted, overlap.truth, overlap.shared
    pieces = _parts(free_t, free_p, t, p, shared / overlap.predicted_px[p])
    merged = _parts(free_p, free_t, p, t, shared / overlap.truth_px[t])
    found = [
        *_told("split", pieces, names_t, names_p),
        *_told("merge", merged, names_p, names_t),
        *_told("missed", _left(free_t, pieces, merged), names_t, names_p),
        *_told("false", _left(free_p, merged, pieces), names_p, names_t),
    ]
    return tuple(sorted(found, key=lambda error: (-error.area_px, error.kind, error.label)))


Parts = dict[int, tuple[int, ...]]
"""Object -> its parts in the other mask, both numbered from 0 in raster order."""


def _parts(
    wholes: NDArray[np.intp],
    parts: NDArray[np.intp],
    of_whole: NDArray[np.intp],
    of_part: NDArray[np.intp],
    share: NDArray[np.float64],
) -> Parts:
    """Give the objects of which two or more lie within a whole, where both have no partner."""
    inside = (share > INSIDE) & np.isin(of_whole, wholes) & np.isin(of_part, parts)
    found: dict[int, list[int]] = {}
    for whole, part in zip(of_whole[inside].tolist(), of_part[inside].tolist(), strict=True):
        found.setdefault(whole, []).append(part)
    several = 2
    return {whole: tuple(some) for whole, some in found.items() if len(some) >= several}


def _left(free: NDArray[np.intp], wholes: Parts, parts_of_other: Parts) -> Parts:
    told = {*wholes, *(part for some in parts_of_other.values() for part in some)}
    return {number: () for number in free.tolist() if number not in told}


@dataclass(frozen=True)
class _Named:
    """Labels, areas and centroids of the objects of a mask, in raster order."""

    labels: NDArray[np.int64]
    areas: NDArray[np.intp]
    centroids: list[tuple[float, ...]]

    @classmethod
    def of(cls, mask: AnyArray) -> _Named:
        ordered = in_raster_order(mask).labels
        count = int(ordered.max(initial=0))
        numbers = np.arange(1, count + 1)
        centres = ndimage.center_of_mass(np.ones_like(ordered), ordered, numbers)
        first = np.unique(ordered, return_index=True)
        where = first[1][first[0] > 0]
        return cls(
            np.asarray(mask).reshape(-1)[where].astype(np.int64),
            np.bincount(ordered.reshape(-1), minlength=count + 1)[1:],
            [tuple(map(float, centre)) for centre in centres],
        )


def _told(kind: Kind, found: Parts, own: _Named, other: _Named) -> Iterator[MaskError]:
    for number, parts in found.items():
        yield MaskError(
            kind,
            int(own.labels[number]),
            own.centroids[number],
            int(own.areas[number]),
            tuple(sorted(int(other.labels[part]) for part in parts)),
        )
