"""The label recipe ``distances``: seeds near the centre and far from the edge of an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.ndimage import smoothed
from bmz.base.values import dataclass
from bmz.process.distance_watershed import watershed
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import (
    connected,
    in_raster_order,
    mean_of_each,
    on_input_grid,
    one_map,
    without_small,
)

TRUNCATE = 3.0
"""Number of standard deviations at which Gaussians end, as in vigra and bioimage-cpp."""


@dataclass(frozen=True)
class Gaussians:
    """How maps are smoothed.

    Parameters
    ----------
    mode : SciPy's name of how maps are extended beyond the border
    truncate : number of standard deviations at which the Gaussian is truncated
    """

    mode: str = "mirror"
    truncate: float = TRUNCATE


TORCH_EM, CORE = Gaussians(), Gaussians("reflect", 4.0)
"""The Gaussians of torch-em and of bioimageio.core; the latter are SciPy's default."""


@dataclass(frozen=True)
class DistanceSettings:
    """Parameters of the recipe."""

    foreground_channel: Annotated[
        int, Knob("channel of the map of all objects, counted from 0", 0)
    ] = 0
    centre_channel: Annotated[
        int,
        Knob(
            "channel of the distance to the centre: 0 there, 1 at the farthest point of the object",
            0,
        ),
    ] = 1
    boundary_channel: Annotated[
        int,
        Knob(
            "channel of the nearness to the edge: 1 there, 0 at the deepest point of the object", 0
        ),
    ] = 2
    foreground_threshold: Annotated[
        float, Knob("minimum foreground probability of an object", 0, 1)
    ] = 0.5
    centre_threshold: Annotated[
        float, Knob("a seed is where the distance to the centre is below this value", 0, 1)
    ] = 0.5
    boundary_threshold: Annotated[
        float, Knob("and where the nearness to the edge is below this value", 0, 1)
    ] = 0.5
    foreground_smoothing: Annotated[
        float,
        Knob("standard deviation of the Gaussian on the foreground, px of the map", 0, grows=1),
    ] = 1.0
    distance_smoothing: Annotated[float, Knob("the same for both distances", 0, grows=1)] = 1.6
    min_size: Annotated[int, Knob("smallest object, px of the map", 0, grows=2)] = 0


def label_distances(
    output: AnyArray, grid: tuple[int, ...], settings: DistanceSettings
) -> Labelled:
    """Label objects by a watershed of the nearness to the edge, from where both distances are low.

    Foreground that no seed reaches is not an object.

    Parameters
    ----------
    output : (c, (z,) y, x), of which three channels are read; values that are not numbers count
        as 0
    grid : spacing of the map, px of the input
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is its mean foreground

    Raises
    ------
    ChannelsDiffer
        The output lacks a channel.
    """
    numbers, foreground = flooded_maps(output, settings, TORCH_EM)
    labels = in_raster_order(on_input_grid(numbers, grid)).labels
    return Labelled(labels, scored(mean_of_each(labels, on_input_grid(foreground, grid))))


def flooded_maps(
    output: AnyArray, settings: DistanceSettings, gaussians: Gaussians
) -> tuple[LabelArray, FloatArray]:
    """Return the objects that `label_distances` describes, and the smoothed foreground.

    Objects are numbered in raster order of their seeds; those that are too small leave gaps.
    """
    foreground = _smooth(
        output, settings.foreground_channel, settings.foreground_smoothing, gaussians
    )
    centre, edge = (
        _smooth(output, channel, settings.distance_smoothing, gaussians)
        for channel in (settings.centre_channel, settings.boundary_channel)
    )
    mask = foreground > settings.foreground_threshold
    seeds = mask & (centre < settings.centre_threshold) & (edge < settings.boundary_threshold)
    markers, _ = connected(seeds)
    labels = without_small(watershed(edge, markers, mask), settings.min_size, (1,) * mask.ndim)
    return labels, foreground


def _smooth(
    output: AnyArray, channel: int, sigma: float, gaussians: Gaussians = TORCH_EM
) -> FloatArray:
    values = np.nan_to_num(np.asarray(one_map("distances", output, channel), np.float32))
    if not sigma:
        return values
    along = [sigma] * values.ndim
    return np.asarray(smoothed(values, along, mode=gaussians.mode, truncate=gaussians.truncate))


def _reach(_maps: LazyArray, parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    widest = max(float(parameters["foreground_smoothing"]), float(parameters["distance_smoothing"]))
    return int(TRUNCATE * widest + 0.5) + 1


def _unlabelled(maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value]) -> BoolArray:
    # foreground that a seed beyond this part of the map may still reach
    sigma, channel = (
        float(parameters["foreground_smoothing"]),
        int(parameters["foreground_channel"]),
    )
    foreground = _smooth(maps, channel, sigma)
    return np.asarray((foreground > float(parameters["foreground_threshold"])) & (labels == 0))


DISTANCES = Recipe(
    name="distances",
    what="foreground, distance to the centre and nearness to the edge: watershed from low "
    "distances",
    source="Archit et al. 2025, micro-sam, doi 10.1038/s41592-024-02580-4; "
    "watershed_from_center_and_boundary_distances of torch-em",
    label=label_distances,
    settings=DistanceSettings,
    in_blocks=InBlocks(least_overlap=_reach, unlabelled=_unlabelled, reach=_reach),
)
"""Label recipe of micro-sam's automatic decoder."""
