"""The label recipes ``components`` and ``argmax``: what is connected is one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import ChannelsDiffer, in_raster_order, on_input_grid, one_map

FEWEST_CLASSES = 2


@dataclass(frozen=True)
class ArgmaxSettings:
    """The parameters of the recipe."""

    background: Annotated[int, Knob("channel of the background, counted from 0; -1: none", -1)] = 0
    instances: Annotated[bool, Knob("number the objects; false: the label is the class")] = True
    diagonal: Annotated[bool, Knob("pixels that touch at a corner are connected")] = True


def label_classes(output: AnyArray, grid: tuple[int, ...], settings: ArgmaxSettings) -> Labelled:
    """Give each connected region of a class a number, or each pixel its class.

    Logits, probabilities and votes give the same; of equal values the first channel wins.

    Parameters
    ----------
    output : (c, (z,) y, x), one map per class
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores. Without `instances` a label is a class:
        1 for the first channel that is not the background, and so on, whichever are met; then
        the numbers may have gaps and stand in no raster order, as the number is the meaning.

    Raises
    ------
    ChannelsDiffer
        There are fewer than two channels, or there is no channel of the background.
    """
    from skimage.measure import label  # here: it takes long to import

    classes = _classes(output, settings.background)
    if not settings.instances:
        return Labelled(on_input_grid(classes, grid), classes=True)
    regions = label(classes, background=0, connectivity=classes.ndim if settings.diagonal else 1)
    return in_raster_order(on_input_grid(regions, grid))


def _classes(output: AnyArray, background: int) -> LabelArray:
    """Give 0 for the background and 1, 2, ... for the other channels in their order."""
    if len(output) < FEWEST_CLASSES:
        raise ChannelsDiffer("argmax", "at least two channels, one per class", len(output))
    if background >= len(output):
        channel = f"channel {background}, counted from 0, as background"
        raise ChannelsDiffer("argmax", channel, len(output))
    best = np.argmax(output, axis=0).astype(np.int32)
    number = np.arange(1, len(output) + 1, dtype=np.int32)
    if background >= 0:
        number[background:] -= 1
        number[background] = 0
    classes: LabelArray = number[best]
    return classes


def _gives_classes(parameters: Mapping[str, Value]) -> bool:
    return not parameters["instances"]


def _refuse_classes(parameters: Mapping[str, Value]) -> str:
    why = "labels that are classes are not numbered in blocks"
    return why if _gives_classes(parameters) else ""


ARGMAX = Recipe(
    name="argmax",
    what="one map per class: each pixel takes the best class, connected ones are an object",
    source="multi-class semantic segmentation; skimage.measure.label for the objects",
    label=label_classes,
    in_blocks=InBlocks(refused=_refuse_classes),
    settings=ArgmaxSettings,
    gives_classes=_gives_classes,
)
"""The recipe of semantic segmentation."""


@dataclass(frozen=True)
class ComponentSettings:
    """The parameters of the recipe."""

    threshold: Annotated[float, Knob("foreground is what lies above, in the unit of the map")] = 0.5
    channel: Annotated[int, Knob("channel of the foreground, counted from 0", 0)] = 0
    diagonal: Annotated[bool, Knob("pixels that touch at a corner are connected")] = True


def label_components(
    output: AnyArray, grid: tuple[int, ...], settings: ComponentSettings
) -> Labelled:
    """Give each connected region above a threshold a number.

    Parameters
    ----------
    output : (c, (z,) y, x), a foreground map or mask
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    from skimage.measure import label  # here: it takes long to import

    above = one_map("components", output, settings.channel) > settings.threshold
    regions = label(above, connectivity=above.ndim if settings.diagonal else 1)
    return in_raster_order(on_input_grid(regions, grid))


COMPONENTS = Recipe(
    name="components",
    what="one foreground map: the connected regions above a threshold; touching objects merge",
    source="connected component labelling, skimage.measure.label",
    label=label_components,
    in_blocks=InBlocks(),
    settings=ComponentSettings,
)
"""The recipe of foreground maps and masks."""
