"""Agreement between masks, and between arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.errors import AnswerIsNo
from bmz.base.values import dataclass
from bmz.process.matching import Overlap
from bmz.process.quality import TIE, predictor
from bmz.spec.model import Tolerance

IOU = 0.5
"""Minimum IoU at which two objects match."""

HALF = 0.5

MOST_PARTNERS = 24
"""Number of other masks to compare a mask with: all pairs of a large sweep would take minutes."""

LEAST_SOLIDITY = 0.85
"""Minimum solidity of a single nucleus or cell; clumps and fragments have less."""

SIZE_FACTOR = 4
"""Largest factor between the area of a plausible object and the median area."""


def agreements(
    masks: Sequence[AnyArray], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return the mean F1 of each mask with the others.

    Parameters
    ----------
    masks : (..., y, x) integers, 0 background, of one shape
    weights : positive weight of each mask in the means of the others; None for equal weights

    Returns
    -------
    (n,) float64
        NaN if there is no other; of many masks, each is compared with `MOST_PARTNERS` evenly
        spaced ones
    """
    count = len(masks)
    partners = np.unique(np.linspace(0, count - 1, min(count, MOST_PARTNERS)).astype(int))
    counts = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    sums, numbers = np.zeros(count), np.zeros(count)
    for i in range(count):
        for j in partners:
            # each pair of partners once
            if i == j or (i in partners and j < i):
                continue
            f1 = f1_between(masks[i], masks[j])
            sums[i], numbers[i] = sums[i] + f1 * counts[j], numbers[i] + counts[j]
            if i in partners:
                sums[j], numbers[j] = sums[j] + f1 * counts[i], numbers[j] + counts[i]
    return np.where(numbers > 0, sums / np.where(numbers > 0, numbers, 1), np.nan)


RELIANCE = 4
"""Power of the predicted F1 that weights a mask: a good one counts far more than a bad one."""

LEAST_COUNT = 1e-3
"""Weight of a mask with a predicted F1 of 0."""


TIGHT = 0.75
"""Minimum IoU at which two objects are nearly identical."""


@dataclass(frozen=True, eq=False)
class MaskPairs:
    """Pairwise comparison of masks of one image.

    Parameters
    ----------
    f1, tight : (n, n) F1 at `IOU` and at `TIGHT`; NaN if two masks were not compared
    dice : (n, n) Dice score of the pixels inside objects
    objects : (n,) number of objects
    shared : for each mask (n, objects), whether another mask also has the object; objects are in
        raster order
    """

    f1: FloatArray
    tight: FloatArray
    dice: FloatArray
    objects: AnyArray
    shared: tuple[BoolArray, ...]

    @classmethod
    def of(cls, masks: Sequence[AnyArray]) -> MaskPairs:
        """Compare all pairs of masks, or each of many with `MOST_PARTNERS` evenly spaced ones.

        Parameters
        ----------
        masks : (..., y, x) integers, 0 background, of one shape
        """
        count = len(masks)
        partners = np.unique(np.linspace(0, count - 1, min(count, MOST_PARTNERS)).astype(int))
        inside = [mask > 0 for mask in masks]
        area = [float(one.sum()) for one in inside]
        objects = np.array(
            [len(np.unique(mask[one])) for mask, one in zip(masks, inside, strict=True)]
        )
        f1, tight, dice = (np.full((count, count), np.nan) for _ in range(3))
        shared = tuple(np.zeros((count, size), np.bool_) for size in objects.tolist())
        for i, j in combinations(range(count), 2):
            if i not in partners and j not in partners:
                continue
            overlap = Overlap.of(masks[i], masks[j])
            matched = overlap.matched(IOU)
            least = max(int(objects[i] + objects[j]), 1)
            same = 2 * len(matched) / least if objects[i] or objects[j] else 1.0
            f1[i, j] = f1[j, i] = same
            tight[i, j] = tight[j, i] = overlap.matching(TIGHT).f1
            both = 2 * float((inside[i] & inside[j]).sum())
            dice[i, j] = dice[j, i] = both / max(area[i] + area[j], 1.0)
            shared[i][j, overlap.predicted[matched]] = True
            shared[j][i, overlap.truth[matched]] = True
        return cls(f1, tight, dice, objects, shared)

    def among(self, members: Sequence[int]) -> MaskPairs:
        """Return the comparison of a subset of the masks."""
        chosen = np.asarray(members, np.intp)
        square = np.ix_(chosen, chosen)
        shared = tuple(self.shared[member][chosen] for member in members)
        matrices = (self.f1[square], self.tight[square], self.dice[square])
        return MaskPairs(*matrices, self.objects[chosen], shared)

    def agreements(self, predicted: Sequence[float | None]) -> NDArray[np.float64]:
        """Return the mean F1 of each mask with the others, weighted by their predicted F1.

        Parameters
        ----------
        predicted : F1 of each mask, 0 to 1; None if it is unknown, which counts as 0

        Returns
        -------
        (n,) float64
            NaN if there is no other
        """
        counts = np.where(np.isnan(self.f1), 0.0, _counts(predicted)[None])
        total = counts.sum(1)
        sums = (np.nan_to_num(self.f1) * counts).sum(1)
        return np.where(total > 0, sums / np.where(total > 0, total, 1), np.nan)

    def evidence(self, predicted: Sequence[float | None]) -> list[dict[str, float]]:
        """Return the evidence for each mask from the others, weighted by their predicted F1.

        Parameters
        ----------
        predicted : as in `agreements`

        Returns
        -------
        list of dict
            name -> value; empty for a mask that was compared with no other
        """
        own = np.array([0.0 if f1 is None else f1 for f1 in predicted])
        return [self._standing(member, own, _counts(predicted)) for member in range(len(own))]

    def _standing(self, member: int, own: FloatArray, counts: FloatArray) -> dict[str, float]:
        others = np.flatnonzero(~np.isnan(self.f1[member]))
        if not len(others):
            return {}
        weights = counts[others] / counts[others].sum()
        f1, tight = self.f1[member, others], self.tight[member, others]
        first = int(np.argmax(own[others]))
        support = weights @ self.shared[member][others]
        backed = float((support >= HALF).mean()) if len(support) else 0.0
        found, surely_found = self._found(member, others, weights)
        count = np.log(self.objects + 1.0)
        return {
            "among_relied": float(weights @ f1),
            "among_plain": float(f1.mean()),
            "among_tight": float(weights @ tight),
            "among_dice": float(weights @ self.dice[member, others]),
            "among_nearest": float(f1.max()),
            "among_first": float(f1[first]),
            "among_first_tight": float(tight[first]),
            "among_backed": backed,
            "among_support": float(support.mean()) if len(support) else 0.0,
            "among_alone": float((support == 0).mean()) if len(support) else 1.0,
            "among_count": float(count[member] - weights @ count[others]) / log(2),
            "among_found": found,
            "among_surely_found": surely_found,
            "among_vote": 2 * backed * surely_found / max(backed + surely_found, 1e-9),
            "among_own": float(own[member]),
            "among_lead": float(own[member] - own[others[first]]),
            "among_below": float((own[others] > own[member]).mean()),
            "among_others": float(len(others)),
        }

    def _found(self, member: int, others: AnyArray, weights: FloatArray) -> tuple[float, float]:
        """Return the share of the others' objects that a mask has, by votes and by squared votes.

        Each object of each other mask counts by the share of the other masks that have it.
        """
        sums = np.zeros((2, 2))
        for other, weight in zip(others.tolist(), weights.tolist(), strict=True):
            votes = weight + weights @ self.shared[other][others]
            mine = self.shared[other][member]
            for power in (1, 2):
                values = weight * votes**power
                sums[power - 1] += float(values[mine].sum()), float(values.sum())
        shares = np.where(sums[:, 1] > 0, sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1), 0.0)
        return float(shares[0]), float(shares[1])


@dataclass(frozen=True)
class Standing:
    """Evidence for a mask from the other masks of its image.

    Parameters
    ----------
    agreement : mean F1 with the others, as in `MaskPairs.agreements`
    f1 : F1 at IoU 0.5, predicted from the comparison with the others
    """

    agreement: float
    f1: float


def standings(
    masks: Sequence[AnyArray], predicted: Sequence[float | None]
) -> list[Standing | None]:
    """Predict the F1 of each of several masks of one image from their comparison.

    Parameters
    ----------
    masks : as in `MaskPairs.of`
    predicted : F1 predicted for each mask alone, 0 to 1; None if it is unknown

    Returns
    -------
    list
        None for a mask that was compared with no other
    """
    pairs, forest = MaskPairs.of(masks), predictor("among").forest
    agreements = pairs.agreements(predicted).tolist()
    return [
        Standing(agreement, forest.mean(evidence)) if evidence else None
        for agreement, evidence in zip(agreements, pairs.evidence(predicted), strict=True)
    ]


def ranks(predicted: Sequence[float]) -> list[int]:
    """Return the rank of each prediction, 1 for the best; tied predictions share a rank.

    A tie consists of the best prediction below the previous tie and all less than `TIE` below it.
    """
    result, first, place = [0] * len(predicted), inf, 0
    for number, i in enumerate(sorted(range(len(predicted)), key=lambda i: -predicted[i]), start=1):
        if predicted[i] <= first - TIE:
            first, place = predicted[i], number
        result[i] = place
    return result


def _counts(predicted: Sequence[float | None]) -> FloatArray:
    """Return the weight of each mask in the means of the others."""
    known = np.array([max(f1 or 0.0, 0.0) for f1 in predicted])
    counts: FloatArray = known**RELIANCE + LEAST_COUNT
    return counts


def supports(masks: Sequence[AnyArray]) -> list[NDArray[np.float64]]:
    """Return, for each object, the share of the other masks that also have it.

    Parameters
    ----------
    masks : (..., y, x), labels from 1 in raster order, of one shape

    Returns
    -------
    list of (n,) float64
        label k is at index k - 1; an empty array if there is only one mask
    """
    if len(masks) == 1:
        return [np.zeros(0)]
    votes = [np.zeros(int(mask.max(initial=0))) for mask in masks]
    for i, first in enumerate(masks):
        for j in range(i + 1, len(masks)):
            overlap = Overlap.of(first, masks[j])
            matched = overlap.matched(IOU)
            votes[i][overlap.predicted[matched]] += 1
            votes[j][overlap.truth[matched]] += 1
    return [counts / (len(masks) - 1) for counts in votes]


def consensus(masks: Sequence[AnyArray]) -> AnyArray:
    """Return a mask of the objects that at least half of the other masks also have.

    The shape of an object is taken from the mask that agrees best with the others.

    Parameters
    ----------
    masks : three or more, as in `supports`

    Returns
    -------
    (..., y, x) int64
        1 to n
    """
    support = supports(masks)
    whole = np.zeros(masks[0].shape, np.int64)
    for i in np.argsort(-agreements(masks), kind="stable"):
        mask, most = masks[i], len(support[i])
        size = np.bincount(mask.reshape(-1), minlength=most + 1)[1:]
        taken = np.bincount(mask[whole > 0], minlength=most + 1)[1:]
        new = (support[i] >= HALF) & (taken < HALF * size)
        number = np.append(0, np.where(new, int(whole.max(initial=0)) + np.cumsum(new), 0))
        whole = np.where(whole == 0, number[mask], whole)
    return whole


def f1_between(mask: AnyArray, other: AnyArray) -> float:
    """Return the F1 of two masks at IoU 0.5; 1 if neither has an object."""
    return Overlap.of(mask, other).matching(IOU).f1


@dataclass(frozen=True)
class Plausibility:
    """Number of objects, and how many of them have an implausible size or shape.

    Parameters
    ----------
    objects : number of objects
    odd_size : share that is far smaller or larger than the median
    odd_shape : share with a low solidity; None for stacks
    """

    objects: int
    odd_size: float
    odd_shape: float | None

    @property
    def share(self) -> float:
        """Return the share of plausible objects; 0 if there are no objects."""
        if not self.objects:
            return 0.0
        return (1 - self.odd_size) * (1 - (self.odd_shape or 0.0))


def plausibility(table: Mapping[str, AnyArray]) -> Plausibility:
    """Return how plausible the sizes and shapes of objects are.

    Objects at the border of the image are ignored, since they are cut.

    Parameters
    ----------
    table : table of `bmz.process.measure.measure_objects`
    """
    whole: BoolArray = ~table["touches_border"].astype(bool)
    size = table["area_px" if "area_px" in table else "volume_px"][whole]
    if not len(size):
        return Plausibility(len(whole), 0.0, None)
    middle = np.median(size)
    odd = (size < middle / SIZE_FACTOR) | (size > middle * SIZE_FACTOR)
    shape = table.get("solidity")
    odd_shape = None if shape is None else float(np.mean(shape[whole] < LEAST_SOLIDITY))
    return Plausibility(len(whole), float(np.mean(odd)), odd_shape)


class ShapeDiffers(AnswerIsNo):
    """A tensor does not have the shape of the tensor that it should equal."""

    def __init__(self, tensor: str, *, expected: Sequence[int], actual: Sequence[int]) -> None:
        super().__init__(
            f"tensor '{tensor}' has shape {tuple(actual)}, wanted {tuple(expected)}",
            hint="the description of the model is at fault; tell its authors",
            code="test.shape",
        )


@dataclass(frozen=True)
class Agreement:
    """Comparison of two tensors of one shape.

    Parameters
    ----------
    largest : largest difference; infinite if only one of the two values is not a number
    where : position of the largest difference, by letter of the axis
    actual, expected : the two values at this position
    mismatched_per_million : elements per million that are beyond the tolerance
    allowed_per_million : maximum for the tensors to agree
    """

    largest: float
    where: Mapping[str, int]
    actual: float
    expected: float
    mismatched_per_million: float
    allowed_per_million: float

    @property
    def within(self) -> bool:
        """Return whether the number of mismatched elements is within the allowed one."""
        return self.mismatched_per_million <= self.allowed_per_million

    def __str__(self) -> str:
        place = " ".join(f"{axis}={i}" for axis, i in self.where.items())
        values = f" ({self.actual:.6g} for {self.expected:.6g} at {place})" if self.largest else ""
        many = f"{self.mismatched_per_million:.4g} of {self.allowed_per_million:g} ppm mismatched"
        return f"largest difference {self.largest:.3g}{values}, {many}"


def compare(
    actual: AnyArray, expected: AnyArray, axes: str, tolerance: Tolerance, *, name: str = ""
) -> Agreement:
    """Compare a tensor with the tensor that it should equal.

    Source: model description 0.5, ``ReproducibilityTolerance``: "A tensor element *output* is
    considered mismatched to the **test_tensor** if abs(*output* - **test_tensor**) >
    **absolute_tolerance** + **relative_tolerance** * abs(**test_tensor**)." As in
    ``numpy.testing.assert_allclose``, to which it refers, two NaN are equal, as are two infinities
    of one sign.

    Parameters
    ----------
    actual, expected : any dtypes, but one shape and one unit
    axes : letters of their axes
    tolerance : tolerance of the description
    name : name of the tensor, for the message

    Raises
    ------
    ShapeDiffers
    """
    if actual.shape != expected.shape:
        raise ShapeDiffers(name, expected=expected.shape, actual=actual.shape)
    one, other = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
        limit = tolerance.absolute + tolerance.relative * np.abs(other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    # a relative tolerance of an infinite value would allow anything
    mismatched = (apart > limit) | np.isinf(apart)
    worst = np.unravel_index(int(apart.argmax()), apart.shape) if apart.size else ()
    return Agreement(
        largest=float(apart[worst]) if apart.size else 0.0,
        where=dict(zip(axes, map(int, worst), strict=False)),
        actual=float(one[worst]) if apart.size else 0.0,
        expected=float(other[worst]) if apart.size else 0.0,
        mismatched_per_million=1e6 * float(mismatched.mean()) if apart.size else 0.0,
        allowed_per_million=float(tolerance.mismatched_per_million),
    )
