"""The weights of tiles that are averaged where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.plan.axis_tiling import AxisTiling, OutputRule

Shares = Sequence[FloatArray | None]
"""One an axis of an output: the share of a tile in each of its pixels; None for all of it."""


def axis_shares(along: AxisTiling, output: OutputRule) -> list[FloatArray | None]:
    """Give for each tile the share that it has in each pixel that is kept of it.

    The shares of all tiles are 1 in every pixel. Weights of planes are products of those along y
    and x, so that shares are, too.

    Returns
    -------
    list of (pixels,) float32
        None for tiles that are cut and not averaged
    """
    blend, kept = along.blend, along.kept(output)
    if blend is None or len(kept) == 1:
        return [None] * len(kept)
    spacing = float(Fraction(output.spacing.get(along.axis, 1)))
    lost = output.lost.get(along.axis, 0)
    total = np.zeros(along.image_output(output))
    weights = []
    for one in kept:
        at = (np.arange(one.source.start, one.source.stop) + 0.5) * spacing + lost
        inside = np.minimum(at, along.tile - at)
        weights.append(blend.weights(inside - lost, along.overlap - 2 * lost))
        total[one.target] += weights[-1]
    return [
        (weight / total[one.target]).astype(np.float32)
        for weight, one in zip(weights, kept, strict=True)
    ]


def weighted(part: AnyArray, shares: Shares) -> FloatArray:
    """Multiply a part of the output of a tile with its share in each pixel.

    Parameters
    ----------
    part : one axis for each of `shares`

    Returns
    -------
    ndarray
        of the shape of `part`, float32 or wider
    """
    result = part.astype(np.result_type(part.dtype, np.float32))
    for axis, share in enumerate(shares):
        if share is not None:
            result *= share.reshape([-1 if i == axis else 1 for i in range(part.ndim)])
    return result
