"""The label recipe ``components``: what is connected above a threshold is one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bmz.base.arrays import AnyArray
from bmz.process.maps import on_input_grid, one_map
from bmz.process.recipe import InBlocks, Labelled, Parameter, Recipe
from bmz.process.relabel import in_raster_order


@dataclass(frozen=True)
class ComponentSettings:
    """The parameters of the recipe; `COMPONENTS` says what they mean."""

    threshold: float = 0.5
    channel: int = 0
    diagonal: bool = True


def label_components(output: AnyArray, grid: tuple[int, ...], **parameters: Any) -> Labelled:  # noqa: ANN401  (as every recipe)
    """Give each connected region above a threshold a number.

    Parameters
    ----------
    output : (c, (z,) y, x), a foreground map or mask
    grid : spacing of the map, px of the input
    **parameters : as in `ComponentSettings`

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

    wanted = ComponentSettings(**parameters)
    above = one_map("components", output, wanted.channel) > wanted.threshold
    found = label(above, connectivity=above.ndim if wanted.diagonal else 1)
    return in_raster_order(on_input_grid(found, grid))


COMPONENTS = Recipe(
    name="components",
    what="one foreground map: the connected regions above a threshold; touching objects merge",
    source="connected component labelling, skimage.measure.label",
    label=label_components,
    in_blocks=InBlocks(),
    parameters=(
        Parameter("threshold", 0.5, "foreground is what lies above, in the unit of the map"),
        Parameter("channel", 0, "channel of the foreground, counted from 0", 0),
        Parameter("diagonal", True, "pixels that touch at a corner are connected"),  # noqa: FBT003  (a default, named by its parameter)
    ),
)
"""The recipe of foreground maps and masks."""
