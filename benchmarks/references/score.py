"""How well two label masks agree, without the code of bmz that is measured elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bmz.base.arrays import AnyArray

IOUS = (0.5, 0.8, 0.9)


@dataclass
class Agreement:
    """Objects of pairs of masks that are the same, summed over the pairs.

    Parameters
    ----------
    one, other : how many objects the masks have
    same : of these, how many pairs overlap by more than each of `IOUS`
    """

    one: int = 0
    other: int = 0
    same: list[int] = field(default_factory=lambda: [0] * len(IOUS))

    def add(self, one: AnyArray, other: AnyArray) -> None:
        """Count the objects of a pair of masks.

        At an intersection over union above 1 / 2 an object has one partner at most.
        """
        (_, first), (_, second) = (np.unique(m, return_inverse=True) for m in (one, other))
        first, second = _from_1(one, first), _from_1(other, second)
        width = int(second.max()) + 1
        pairs, both = np.unique(first * width + second, return_counts=True)
        a, b = np.divmod(pairs, width)
        union = np.bincount(first)[a] + np.bincount(second)[b] - both
        overlap = (both / union)[(a > 0) & (b > 0)]
        self.one += int(first.max())
        self.other += int(second.max())
        self.same = [n + int((overlap > iou).sum()) for n, iou in zip(self.same, IOUS, strict=True)]

    @property
    def f1(self) -> tuple[float, ...]:
        """2 TP / (n + m) at each of `IOUS`; 1 where there is nothing to find and nothing found."""
        total = self.one + self.other
        return tuple(2 * n / total if total else 1.0 for n in self.same)


def _from_1(labels: AnyArray, inverse: AnyArray) -> AnyArray:
    # 0 stays the background, also where there is none
    flat: AnyArray = inverse.reshape(-1).astype(np.int64)
    return flat if (labels == 0).any() else flat + 1
