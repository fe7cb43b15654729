"""Strategies of hypothesis: label masks, and what networks ask of sizes (needs hypothesis)."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from bmz.base.arrays import LabelArray
from bmz.plan.tiling import AxisRule


def label_masks(
    shape: tuple[int, ...] | None = None,
    *,
    labels: Sequence[int] = tuple(range(7)),
    dtypes: Sequence[DTypeLike] = (np.int32,),
    most_px: int = 6,
) -> st.SearchStrategy[LabelArray]:
    """Give masks whose objects touch, have holes and lie in pieces.

    Parameters
    ----------
    shape : of the mask; planes and stacks of any small shape where none is given
    labels : that occur, with 0 for the background; one that is named twice occurs more often
    dtypes : of the mask
    most_px : the longest side, where no shape is given
    """
    any_shape = hnp.array_shapes(min_dims=2, max_dims=3, max_side=most_px)
    return hnp.arrays(
        st.sampled_from([np.dtype(dtype) for dtype in dtypes]),
        any_shape if shape is None else shape,
        elements=st.sampled_from(list(labels)),
    )


@st.composite
def axis_rules(draw: st.DrawFn) -> AxisRule:
    """Draw what a network asks of axis x: any step, grid, halo and loss that leave a tile."""
    grid = draw(st.sampled_from([1, 1, 2, 3, 4]))
    step = draw(st.sampled_from([0, 1, 2, 8, 16, 24, 32]))
    lost, halo = grid * draw(st.integers(0, 5)), draw(st.integers(0, 20))
    room = grid * draw(st.integers(1, 60))
    return AxisRule("x", room + 2 * (lost + halo + grid) // grid * grid, step, halo, grid, lost)
