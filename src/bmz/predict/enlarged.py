"""Enlarge what a network is given: its own test input, mirrored until it is large enough."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import lcm

from bmz.plan.tiling import AxisRule
from bmz.predict.cutting import Tensor, cut


def spatial_sizes(tensors: Sequence[Tensor], rules: Sequence[AxisRule]) -> dict[str, int]:
    """Give the size of each spatial axis, px: that of the first tensor that has it."""
    return {
        rule.axis: next(a.shape[axes.index(rule.axis)] for a, axes in tensors if rule.axis in axes)
        for rule in rules
    }


def enlarged(tensors: Sequence[Tensor], sizes: Mapping[str, int]) -> list[Tensor]:
    """Take the first image of each tensor and bring it to `sizes`, mirrored or cut at its end.

    Parameters
    ----------
    tensors : inputs of a network, after the declared preprocessing
    sizes : wanted size of each spatial axis, px
    """
    result = []
    for array, axes in tensors:
        if "b" in axes:
            array = cut(array, axes.index("b"), 0, 1, "reflect")  # noqa: PLW2901 (a view of it)
        for axis, size in sizes.items():
            if axis in axes:
                array = cut(array, axes.index(axis), 0, size, "reflect")  # noqa: PLW2901
        result.append(Tensor(array, axes))
    return result


def legal_size(rule: AxisRule, least: int) -> int:
    """Give the smallest image, px, of `least` or more that the network takes without padding.

    For a network of one fixed size, the image that fills it.
    """
    if not rule.step:
        return rule.least - 2 * rule.lost
    sizes = rule.legal_sizes(least + 2 * rule.lost + lcm(rule.step, rule.grid))
    return sizes[bisect_left(sizes, least + 2 * rule.lost)] - 2 * rule.lost
