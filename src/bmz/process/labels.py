"""The label recipe ``labels``: the output is labels already and only numbered in order."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import AnswerIsNo
from bmz.process.recipe import Labelled, NoSettings, Recipe
from bmz.process.relabel import ChannelsDiffer, in_raster_order, on_input_grid


class NotLabels(AnswerIsNo):
    """A map that should hold the numbers of objects holds something else."""

    def __init__(self, found: object) -> None:
        super().__init__(
            f"recipe 'labels' wants whole numbers, 0 and above, but the output holds {found}",
            hint="the output is a map and no labels: choose another --recipe",
            code="recipe.not-labels",
        )


def take_labels(output: AnyArray, grid: tuple[int, ...], _settings: NoSettings) -> Labelled:
    """Set the numbers of a label image in raster order.

    Parameters
    ----------
    output : (1, (z,) y, x) of any dtype, whole numbers, 0 for background
    grid : spacing of the labels, px of the input
    _settings : none; taken so that recipes are called alike

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        There are several channels.
    NotLabels
        A value is no whole number, below 0 or not finite.
    """
    if len(output) != 1:
        raise ChannelsDiffer("labels", "one channel, the labels", len(output))
    whole = output[0].astype(np.uint8) if output.dtype == np.bool_ else output[0]
    if whole.dtype.kind not in "iu":
        whole = _as_whole(whole)
    if whole.size and whole.min() < 0:
        raise NotLabels(whole.min())
    return in_raster_order(on_input_grid(whole, grid))


def _as_whole(values: AnyArray) -> AnyArray:
    odd = ~np.isfinite(values) | (values != np.rint(values))
    if odd.any():
        raise NotLabels(values[odd][0])
    return values.astype(np.int64)


LABELS = Recipe(
    name="labels",
    what="the output is labels already; they are numbered 1 to n",
    source="the model description",
    label=take_labels,
    of_labels=True,
    rescale="labels",
    rescale_why="there is nothing between two numbers",
)
"""The recipe of outputs that need none."""
