"""Cut an array into boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TypeAlias

Box: TypeAlias = tuple[slice, ...]


def boxes(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Box]:
    """Give the boxes that cover an array of `shape`, the last axis the fastest.

    Parameters
    ----------
    shape : of the array
    sides : of a box, one an axis, 1 or more; the last one along an axis may be shorter

    Examples
    --------
    >>> [[(s.start, s.stop) for s in box] for box in boxes((1, 3), (1, 2))]
    [[(0, 1), (0, 2)], [(0, 1), (2, 3)]]
    """
    ends = [
        [slice(at, min(at + side, n)) for at in range(0, n, side)]
        for n, side in zip(shape, sides, strict=True)
    ]
    yield from product(*ends)
