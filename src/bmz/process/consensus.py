"""How far several masks, or arrays, agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.base.errors import AnswerIsNo
from bmz.base.values import dataclass
from bmz.process.matching import Overlap
from bmz.spec.model import Tolerance

IOU = 0.5
"""From which two objects are the same."""

HALF = 0.5

MOST_PARTNERS = 24
"""With how many others a mask is compared: all pairs of a large sweep would take minutes."""

LEAST_SOLIDITY = 0.85
"""Of a single nucleus or cell; clumps and torn objects have less."""

SIZE_FACTOR = 4
"""How far the area of a plausible object is from the middle one at the most."""


def agreements(
    masks: Sequence[AnyArray], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Give the mean F1 of each mask with the others.

    Parameters
    ----------
    masks : (..., y, x) integers, 0 background, of one shape
    weights : how much each counts for the others, above 0; None for all alike

    Returns
    -------
    (n,) float64
        NaN where there is no other; with more than `MOST_PARTNERS` others, those evenly spread
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
"""With this power of its predicted F1 a mask counts for others: a good one far more than a bad."""

LEAST_COUNT = 1e-3
"""So much a mask counts of which nothing good is predicted."""


def relied_agreements(
    masks: Sequence[AnyArray], predicted: Sequence[float | None]
) -> NDArray[np.float64]:
    """Give the mean F1 of each mask with the others, of which good ones count more.

    Parameters
    ----------
    masks : as for `agreements`
    predicted : F1 of each, 0 to 1; None where it is not known, for as little as 0

    Returns
    -------
    (n,) float64
        NaN where there is no other
    """
    return agreements(masks, [max(f1 or 0.0, 0.0) ** RELIANCE + LEAST_COUNT for f1 in predicted])


def supports(masks: Sequence[AnyArray]) -> list[NDArray[np.float64]]:
    """Give for each object the share of the other masks that have it too.

    Parameters
    ----------
    masks : (..., y, x), labels from 1 in raster order, of one shape

    Returns
    -------
    list of (n,) float64
        for label k at k - 1; empty arrays where there is one mask
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
    """Give the objects that at least half of the other masks have too, each once.

    Of the masks that have an object the one that agrees best with the others gives its shape.

    Parameters
    ----------
    masks : three or more, as for `supports`

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
    """Give the F1 of two masks at IoU 0.5; 1 where neither has an object."""
    return Overlap.of(mask, other).matching(IOU).f1


@dataclass(frozen=True)
class Plausibility:
    """How many objects have a plausible size and shape.

    Parameters
    ----------
    objects : how many there are
    odd_size : share that is far smaller or larger than the middle one
    odd_shape : share that fills little of its convex hull; None for stacks
    """

    objects: int
    odd_size: float
    odd_shape: float | None

    @property
    def share(self) -> float:
        """Give the share of plausible objects; 0 without any."""
        if not self.objects:
            return 0.0
        return (1 - self.odd_size) * (1 - (self.odd_shape or 0.0))


def plausibility(table: Mapping[str, AnyArray]) -> Plausibility:
    """Judge sizes and shapes.

    Objects at the border of the image are cut, and are left out.

    Parameters
    ----------
    table : as `bmz.process.measure.measure_objects` gives it
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
    """A tensor has another shape than the one that it should equal."""

    def __init__(self, tensor: str, *, expected: Sequence[int], actual: Sequence[int]) -> None:
        super().__init__(
            f"tensor '{tensor}' has shape {tuple(actual)}, wanted {tuple(expected)}",
            hint="the description of the model is at fault; tell its authors",
            code="test.shape",
        )


@dataclass(frozen=True)
class Agreement:
    """The comparison of two tensors of one shape.

    Parameters
    ----------
    largest : the largest difference; infinite where one of the two is not a number
    where : its position, by letter of the axis
    actual, expected : the two values there
    mismatched_per_million : how many elements are beyond the tolerance
    allowed_per_million : how many may be
    """

    largest: float
    where: Mapping[str, int]
    actual: float
    expected: float
    mismatched_per_million: float
    allowed_per_million: float

    @property
    def within(self) -> bool:
        """Say whether no more elements are mismatched than may be."""
        return self.mismatched_per_million <= self.allowed_per_million

    def __str__(self) -> str:
        place = " ".join(f"{axis}={i}" for axis, i in self.where.items())
        values = f" ({self.actual:.6g} for {self.expected:.6g} at {place})" if self.largest else ""
        many = f"{self.mismatched_per_million:.4g} of {self.allowed_per_million:g} ppm mismatched"
        return f"largest difference {self.largest:.3g}{values}, {many}"


def compare(
    actual: AnyArray, expected: AnyArray, axes: str, tolerance: Tolerance, *, name: str = ""
) -> Agreement:
    """Compare a tensor with the one that it should equal.

    Source: model description 0.5, ``ReproducibilityTolerance``: "A tensor element *output* is
    considered mismatched to the **test_tensor** if abs(*output* - **test_tensor**) >
    **absolute_tolerance** + **relative_tolerance** * abs(**test_tensor**)." As in
    ``numpy.testing.assert_allclose``, to which it refers, two NaN are equal and two infinities of
    one sign are.

    Parameters
    ----------
    actual, expected : any shape, dtype and unit, the same of both but for the dtype
    axes : letters of their axes
    name : of the tensor, for the message

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
