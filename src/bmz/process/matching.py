"""Objects of two masks, matched by their overlap, and the kinds of error between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.process.relabel import in_raster_order

SURELY_ONE_TO_ONE = 0.5
"""Above this IoU an object can have only one partner."""


class ShapesDiffer(WrongUsage):
    """Two masks have different shapes and cannot be compared."""

    def __init__(self, predicted: tuple[int, ...], truth: tuple[int, ...]) -> None:
        super().__init__(
            f"the masks differ in shape: predicted {predicted}, truth {truth}",
            hint="score masks of the same image, on the same grid",
            code="matching.shape",
        )


class ThresholdOutside(WrongUsage):
    """An IoU threshold is not above 0 and at most 1."""

    def __init__(self, iou: float) -> None:
        super().__init__(
            f"the IoU threshold {iou} is not above 0 and at most 1",
            hint="0.5 is the usual threshold",
            code="matching.threshold",
        )


@dataclass(frozen=True)
class Matching:
    """Agreement of two masks at one IoU threshold.

    Two masks without any object agree fully: every score is 1. If only one mask has objects, or
    none match, every score is 0.

    Parameters
    ----------
    tp : number of matched objects
    fp : number of predicted objects without a partner
    fn : number of true objects without a partner
    precision : tp / (tp + fp)
    recall : tp / (tp + fn)
    f1 : 2 tp / (2 tp + fp + fn)
    ap : tp / (tp + fp + fn)
    pq : sum of the IoUs of matched objects / (tp + fp / 2 + fn / 2)
    mean_matched_iou : mean IoU of matched objects
    """

    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    ap: float
    pq: float
    mean_matched_iou: float


def match_labels(predicted: AnyArray, truth: AnyArray, iou: float) -> Matching:
    """Match as many objects as possible with an intersection over union of at least `iou`.

    Source: the metrics of Caicedo et al. 2019 (doi 10.1038/s41592-019-0612-7) and panoptic quality
    of Kirillov et al. 2019 (arXiv 1801.00868), with the optimal matching of ``stardist.matching``.

    Parameters
    ----------
    predicted, truth : (..., y, x) integers, 0 background; labels in any order
    iou : above 0, at most 1

    Raises
    ------
    ShapesDiffer
        The masks have different shapes.
    ThresholdOutside
        `iou` is not above 0 and at most 1.
    """
    if predicted.shape != truth.shape:
        raise ShapesDiffer(predicted.shape, truth.shape)
    if not 0 < iou <= 1:
        raise ThresholdOutside(iou)
    overlap = Overlap.of(predicted, truth)
    return overlap.matching(iou)


def pooled(matchings: Sequence[Matching]) -> Matching:
    """Combine the counts of several images as if they were one image."""
    sums = [m.mean_matched_iou * m.tp for m in matchings]
    tp, fp, fn = (sum(getattr(m, name) for m in matchings) for name in ("tp", "fp", "fn"))
    return _counted(tp, sum(sums), tp + fp, tp + fn)


def _counted(tp: int, total: float, n_predicted: int, n_truth: int) -> Matching:
    fp, fn = n_predicted - tp, n_truth - tp
    if n_predicted == n_truth == 0:
        return Matching(0, 0, 0, *[1.0] * 6)
    return Matching(
        tp, fp, fn,
        precision=tp / max(n_predicted, 1), recall=tp / max(n_truth, 1),
        f1=2 * tp / (n_predicted + n_truth), ap=tp / (tp + fp + fn),
        pq=2 * total / (n_predicted + n_truth), mean_matched_iou=total / max(tp, 1),
    )  # fmt: skip


@dataclass(frozen=True)
class Overlap:
    """All pairs of objects of two masks that share a pixel.

    Objects are numbered from 0 in raster order of their first pixels.

    Parameters
    ----------
    predicted, truth : (p,) numbers of the objects of each pair
    shared : (p,) number of pixels that they share
    iou : (p,) intersection over union
    predicted_px, truth_px : (n,), (m,) number of pixels of each object
    """

    predicted: NDArray[np.intp]
    truth: NDArray[np.intp]
    shared: NDArray[np.intp]
    iou: NDArray[np.float64]
    predicted_px: NDArray[np.intp]
    truth_px: NDArray[np.intp]

    @classmethod
    def of(cls, predicted: AnyArray, truth: AnyArray) -> Overlap:
        """Return the overlap of two masks.

        Parameters
        ----------
        predicted, truth : integers of one shape, 0 background
        """
        a, b = (in_raster_order(mask).labels.ravel() for mask in (predicted, truth))
        size_a, size_b = np.bincount(a, minlength=1)[1:], np.bincount(b, minlength=1)[1:]
        both = (a > 0) & (b > 0)
        pair = (a[both] - 1).astype(np.int64) * max(len(size_b), 1) + (b[both] - 1)
        pairs, shared = np.unique(pair, return_counts=True)
        i, j = np.divmod(pairs, max(len(size_b), 1))
        iou = shared / (size_a[i] + size_b[j] - shared)
        return cls(i, j, shared, iou, size_a, size_b)

    def matching(self, least: float) -> Matching:
        """Return the agreement at one IoU threshold."""
        matched = self.matched(least)
        total = float(self.iou[matched].sum())
        return _counted(len(matched), total, len(self.predicted_px), len(self.truth_px))

    def matched(self, least: float) -> NDArray[np.intp]:
        """Return the indices of the matched pairs: the most pairs, then the largest sum of IoUs."""
        if least > SURELY_ONE_TO_ONE:
            return np.flatnonzero(self.iou >= least)
        from scipy.sparse import csr_array  # here: they take long to import
        from scipy.sparse.csgraph import connected_components

        offset = len(self.predicted_px)
        shape = (offset + len(self.truth_px),) * 2
        graph = csr_array((self.iou, (self.predicted, offset + self.truth)), shape)
        group = connected_components(graph, directed=False)[1][self.predicted]
        order = np.argsort(group, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        return np.concatenate([self._matched_in(part, least) for part in parts])

    def _matched_in(self, part: NDArray[np.intp], least: float) -> NDArray[np.intp]:
        # objects that overlap directly or through others form a small table of their own
        rows, i = np.unique(self.predicted[part], return_inverse=True)
        columns, j = np.unique(self.truth[part], return_inverse=True)
        iou = np.zeros((len(rows), len(columns)))
        iou[i, j] = self.iou[part]
        pair = np.zeros(iou.shape, np.intp)
        pair[i, j] = part
        # a match counts 1; the sum of IoUs decides between equal counts
        # here: it takes long to import, and few commands compare masks
        from scipy.optimize import linear_sum_assignment

        most = 2 * max(min(len(self.predicted_px), len(self.truth_px)), 1)
        row, column = linear_sum_assignment((iou >= least) + iou / most, maximize=True)
        matched: NDArray[np.intp] = pair[row, column][iou[row, column] >= least]
        return matched


INSIDE = 0.5
"""An object is part of another one if more than this share of its area is inside that one."""

Kind = Literal["split", "merge", "missed", "false"]


@dataclass(frozen=True)
class MaskError:
    """Object without a partner, and the kind of error.

    Parameters
    ----------
    kind : ``split``: a true object is in pieces; ``merge``: a predicted object contains several
        true ones; ``missed``, ``false``: a true or a predicted object has no counterpart
    label : label of the object in its mask (the true one for ``split`` and ``missed``)
    centroid : position along each axis of the mask, px
    area_px : area of the object
    parts : labels, in the other mask, of the pieces or of the merged objects
    """

    kind: Kind
    label: int
    centroid: tuple[float, ...]
    area_px: int
    parts: tuple[int, ...] = ()


def mask_errors(predicted: AnyArray, truth: AnyArray, iou: float = 0.5) -> tuple[MaskError, ...]:
    """Return the objects without a partner, the largest first.

    A true object without a partner is split if more than half of each of two or more predicted
    objects without a partner is inside it; the reverse is a merge. All others are missed or false.
    Pieces and merged objects are listed with their whole, not separately.

    Source: the kinds of error of Caicedo et al. 2019 (doi 10.1002/cyto.a.23863).

    Parameters
    ----------
    predicted, truth : integers of one shape, 0 background
    iou : minimum IoU of partners
    """
    overlap = Overlap.of(predicted, truth)
    matched = overlap.matched(iou)
    free_p = np.setdiff1d(np.arange(len(overlap.predicted_px)), overlap.predicted[matched])
    free_t = np.setdiff1d(np.arange(len(overlap.truth_px)), overlap.truth[matched])
    names_p, names_t = _Named.of(predicted), _Named.of(truth)
    p, t, shared = overlap.predicted, overlap.truth, overlap.shared
    pieces = _parts(free_t, free_p, t, p, shared / overlap.predicted_px[p])
    merged = _parts(free_p, free_t, p, t, shared / overlap.truth_px[t])
    errors = [
        *_told("split", pieces, names_t, names_p),
        *_told("merge", merged, names_p, names_t),
        *_told("missed", _left(free_t, pieces, merged), names_t, names_p),
        *_told("false", _left(free_p, merged, pieces), names_p, names_t),
    ]
    return tuple(sorted(errors, key=lambda error: (-error.area_px, error.kind, error.label)))


Fault = Literal["split", "merge", "missed", "false", "small", "large", "moved"]

MOST_WORST = 20
"""Maximum number of objects in the list."""

POOR_IOU = 0.75
"""An object whose IoU with its partner is below this has a poor outline."""

ONE_SIDED = 0.1
"""Difference in the overlapping shares of two partners above which one is too small."""


@dataclass(frozen=True)
class WorstObject:
    """Object that is wrong or has a poor outline.

    Parameters
    ----------
    what : a kind of `MaskError`, or for an object with a partner: ``small`` or ``large``, smaller
        or larger than the partner; ``moved``, displaced or of a different shape
    label, truth : label of the predicted and of the true object; None if there is none
    iou : largest IoU with an object of the other mask
    centroid : position along each axis of the mask, px
    area_px : area of the object; of the true one for ``split`` and ``missed``
    parts : as in `MaskError`
    """

    what: Fault
    label: int | None
    truth: int | None
    iou: float
    centroid: tuple[float, ...]
    area_px: int
    parts: tuple[int, ...] = ()


def worst_objects(
    predicted: AnyArray, truth: AnyArray, iou: float = 0.5
) -> tuple[WorstObject, ...]:
    """Return the objects that are wrong or poor, by increasing IoU, then by decreasing area.

    Parameters
    ----------
    predicted, truth : integers of one shape, 0 background
    iou : minimum IoU of partners

    Returns
    -------
    tuple of WorstObject
        at most `MOST_WORST`
    """
    overlap = Overlap.of(predicted, truth)
    best_p, best_t = np.zeros(len(overlap.predicted_px)), np.zeros(len(overlap.truth_px))
    np.maximum.at(best_p, overlap.predicted, overlap.iou)
    np.maximum.at(best_t, overlap.truth, overlap.iou)
    names_p, names_t = _Named.of(predicted), _Named.of(truth)
    share_p = dict(zip(names_p.labels.tolist(), best_p.tolist(), strict=True))
    share_t = dict(zip(names_t.labels.tolist(), best_t.tolist(), strict=True))
    worst = []
    for error in mask_errors(predicted, truth, iou):
        own = error.label if error.kind in {"false", "merge"} else None
        true = error.label if own is None else None
        shared = share_t[error.label] if own is None else share_p[error.label]
        worst.append(
            WorstObject(error.kind, own, true, shared, error.centroid, error.area_px, error.parts)
        )
    matched = overlap.matched(iou)
    for pair in matched[overlap.iou[matched] < POOR_IOU].tolist():
        i, j = int(overlap.predicted[pair]), int(overlap.truth[pair])
        worst.append(
            WorstObject(
                _outline_fault(overlap, pair),
                int(names_p.labels[i]),
                int(names_t.labels[j]),
                float(overlap.iou[pair]),
                names_p.centroids[i],
                int(names_p.areas[i]),
            )
        )
    return tuple(sorted(worst, key=lambda one: (one.iou, -one.area_px))[:MOST_WORST])


def _outline_fault(overlap: Overlap, pair: int) -> Fault:
    """Return the fault of the outline of an object that has a partner."""
    shared = overlap.shared[pair]
    of_own = shared / overlap.predicted_px[overlap.predicted[pair]]
    of_true = shared / overlap.truth_px[overlap.truth[pair]]
    if of_own > of_true + ONE_SIDED:
        return "small"
    return "large" if of_true > of_own + ONE_SIDED else "moved"


Parts = dict[int, tuple[int, ...]]
"""Object -> its parts in the other mask, both numbered from 0 in raster order."""


def _parts(
    wholes: NDArray[np.intp],
    parts: NDArray[np.intp],
    of_whole: NDArray[np.intp],
    of_part: NDArray[np.intp],
    share: NDArray[np.float64],
) -> Parts:
    """Return each whole with two or more parts inside it, where none of them has a partner."""
    inside = (share > INSIDE) & np.isin(of_whole, wholes) & np.isin(of_part, parts)
    parts_of: dict[int, list[int]] = {}
    for whole, part in zip(of_whole[inside].tolist(), of_part[inside].tolist(), strict=True):
        parts_of.setdefault(whole, []).append(part)
    several = 2
    return {whole: tuple(some) for whole, some in parts_of.items() if len(some) >= several}


def _left(free: NDArray[np.intp], wholes: Parts, parts_of_other: Parts) -> Parts:
    explained = {*wholes, *(part for some in parts_of_other.values() for part in some)}
    return {number: () for number in free.tolist() if number not in explained}


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


def _told(kind: Kind, objects: Parts, own: _Named, other: _Named) -> Iterator[MaskError]:
    for number, parts in objects.items():
        yield MaskError(
            kind,
            int(own.labels[number]),
            own.centroids[number],
            int(own.areas[number]),
            tuple(sorted(int(other.labels[part]) for part in parts)),
        )
