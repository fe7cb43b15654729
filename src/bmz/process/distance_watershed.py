"""The label recipe ``distance_watershed``: touching objects of a mask are cut at their necks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.process.contour import mean_of_each
from bmz.process.depth import depth_of
from bmz.process.maps import channel_words, on_input_grid, one_map
from bmz.process.output_map import ChannelsDiffer
from bmz.process.peaks import prominent_peaks
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import in_raster_order
from bmz.process.thresholds import OTSU, threshold_of
from bmz.process.whole_map import streamed_otsu


@dataclass(frozen=True)
class DistanceSettings:
    """The parameters of the recipe."""

    threshold: Annotated[float, Knob("foreground is what lies above; -1: by Otsu's method")] = 0.5
    channel: Annotated[int, Knob("channel of the foreground, counted from 0", 0)] = 0
    neck: Annotated[
        float, Knob("how much narrower a neck is than the objects beside it, px", 0, grows=1)
    ] = 0.5
    sigma: Annotated[float, Knob("smoothing of the distance, px of the input", 0, grows=1)] = 1.0


def label_by_distance(
    output: AnyArray, grid: tuple[int, ...], settings: DistanceSettings
) -> Labelled:
    """Cut a foreground where it is narrow.

    The distance to the background has a peak in the middle of each object. Peaks that rise by less
    than `neck` above the saddle between them are one object; the watershed of the distance from
    the others are the objects.

    Parameters
    ----------
    output : (c, (z,) y, x), a foreground map or mask
    grid : spacing of the map, px of the input; distances heed it
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``; the score of an object is the mean of its foreground

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    from skimage.segmentation import watershed  # here: it takes long to import

    values = one_map("distance_watershed", output, settings.channel)
    inside = values > threshold_of(values, settings.threshold)
    depth = np.zeros(values.shape, np.float32)
    if not inside.all():
        depth = depth_of(inside, grid)
    if settings.sigma > 0:
        depth = ndimage.gaussian_filter(depth, [settings.sigma / step for step in grid])
    seeds = prominent_peaks(depth, settings.neck, mask=inside)
    labels = in_raster_order(on_input_grid(watershed(-depth, seeds, mask=inside), grid)).labels
    return Labelled(labels, mean_of_each(labels, on_input_grid(values, grid)))


def threshold_of_whole_map(
    maps: Any,  # noqa: ANN401  (an array of which parts are read)
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Find the threshold if it is to be found by Otsu's method, as `Recipe.of_whole_map` says."""
    channel = int(parameters["channel"])
    if not 0 <= channel < maps.shape[0]:
        raise ChannelsDiffer("distance_watershed", channel_words(channel), maps.shape[0])
    return {"threshold": streamed_otsu(maps, channel)} if parameters["threshold"] == OTSU else {}


DISTANCE_WATERSHED = Recipe(
    name="distance_watershed",
    what="one foreground map: its regions, cut where they are narrow",
    source="Meyer 1994, doi 10.1016/0165-1684(94)90060-4; h-maxima of the distance transform",
    label=label_by_distance,
    in_blocks=InBlocks(),
    of_whole_map=threshold_of_whole_map,
    settings=DistanceSettings,
)
"""The recipe of foreground maps whose objects touch."""
