"""The label recipe ``components``: what is connected above a threshold is one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bmz.base.arrays import AnyArray
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import in_raster_order, on_input_grid, one_map


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
    found = label(above, connectivity=above.ndim if settings.diagonal else 1)
    return in_raster_order(on_input_grid(found, grid))


COMPONENTS = Recipe(
    name="components",
    what="one foreground map: the connected regions above a threshold; touching objects merge",
    source="connected component labelling, skimage.measure.label",
    label=label_components,
    in_blocks=InBlocks(),
    settings=ComponentSettings,
)
"""The recipe of foreground maps and masks."""
