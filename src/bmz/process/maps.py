"""What the simple label recipes share: one map of an output, small objects, the input's grid."""

from __future__ import annotations

import math

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.process.output_map import ChannelsDiffer


def one_map(recipe: str, output: AnyArray, channel: int) -> AnyArray:
    """Give one channel of (c, (z,) y, x).

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    if not 0 <= channel < len(output):
        raise ChannelsDiffer(recipe, channel_words(channel), len(output))
    found: AnyArray = output[channel]
    return found


def channel_words(channel: int) -> str:
    """Name a channel that a recipe reads, for `ChannelsDiffer`."""
    return f"a channel {channel}, counted from 0"


SHARE_TOLERANCE = 0.01
"""Channels that sum to 1 within this are shares of a whole: a pixel is one thing or the other."""


def are_shares(output: AnyArray) -> bool:
    """Say whether the channels of (c, (z,) y, x) exclude each other: they sum to 1 everywhere."""
    return len(output) > 1 and bool((abs(output.sum(axis=0) - 1) < SHARE_TOLERANCE).all())


def without_small(labels: LabelArray, min_size: float, grid: tuple[int, ...]) -> LabelArray:
    """Set objects of fewer than `min_size` px to background; `labels` itself if there are none.

    Parameters
    ----------
    labels : ((z,) y, x), on the grid of the output
    min_size : px of the input
    grid : px of the input for each entry of `labels`, one number an axis
    """
    if min_size * labels.size == 0:
        return labels
    keeps = np.bincount(labels.ravel()) * math.prod(grid) >= min_size
    keeps[0] = True
    return labels if keeps.all() else np.where(keeps[labels], labels, 0)


def on_input_grid(labels: AnyArray, grid: tuple[int, ...]) -> AnyArray:
    """Repeat every entry `grid` times along each axis, so that labels lie on the input's pixels."""
    for axis, times in enumerate(grid):
        if times != 1:
            labels = np.repeat(labels, times, axis)
    return labels
