"""How far one tensor is from another, in the words of the specification's tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import AnswerIsNo
from bmz.spec.model import Tolerance


class ShapeDiffers(AnswerIsNo):
    """A tensor has another shape than the one that it should equal."""

    def __init__(self, tensor: str, *, wanted: Sequence[int], found: Sequence[int]) -> None:
        super().__init__(
            f"tensor '{tensor}' has shape {tuple(found)}, wanted {tuple(wanted)}",
            hint="the description of the model is at fault; tell its authors",
            code="test.shape",
        )


@dataclass(frozen=True)
class Agreement:
    """The comparison of two tensors of one shape.

    Parameters
    ----------
    largest : the largest difference; infinite where one of the two is no number
    where : its position, by letter of the axis
    found, wanted : the two values there
    mismatched_per_million : how many elements are beyond the tolerance
    allowed_per_million : how many may be
    """

    largest: float
    where: Mapping[str, int]
    found: float
    wanted: float
    mismatched_per_million: float
    allowed_per_million: float

    @property
    def within(self) -> bool:
        """Say whether no more elements are mismatched than may be."""
        return self.mismatched_per_million <= self.allowed_per_million

    def __str__(self) -> str:
        place = " ".join(f"{axis}={i}" for axis, i in self.where.items())
        values = f" ({self.found:.6g} for {self.wanted:.6g} at {place})" if self.largest else ""
        many = f"{self.mismatched_per_million:.4g} of {self.allowed_per_million:g} ppm mismatched"
        return f"largest difference {self.largest:.3g}{values}, {many}"


def compare(
    found: AnyArray, wanted: AnyArray, axes: str, tolerance: Tolerance, *, name: str = ""
) -> Agreement:
    """Compare a tensor with the one that it should equal.

    Source: model description 0.5, ``ReproducibilityTolerance``: "A tensor element *output* is
    considered mismatched to the **test_tensor** if abs(*output* - **test_tensor**) >
    **absolute_tolerance** + **relative_tolerance** * abs(**test_tensor**)." As in
    ``numpy.testing.assert_allclose``, to which it refers, two NaN are equal and two infinities of
    one sign are.

    Parameters
    ----------
    found, wanted : any shape, dtype and unit, the same of both but for the dtype
    axes : letters of their axes
    name : of the tensor, for the message

    Raises
    ------
    ShapeDiffers
    """
    if found.shape != wanted.shape:
        raise ShapeDiffers(name, wanted=wanted.shape, found=found.shape)
    one, other = found.astype(np.float64), wanted.astype(np.float64)
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
        found=float(one[worst]) if apart.size else 0.0,
        wanted=float(other[worst]) if apart.size else 0.0,
        mismatched_per_million=1e6 * float(mismatched.mean()) if apart.size else 0.0,
        allowed_per_million=float(tolerance.mismatched_per_million),
    )
