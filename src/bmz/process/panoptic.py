"""The label recipe ``panoptic``: pixels point to the centre of their object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.values import dataclass
from bmz.process.object_classes import classes_from_maps
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import ChannelsDiffer, in_raster_order, on_input_grid, one_map
from bmz.process.spots import peaks_of


@dataclass(frozen=True)
class PanopticSettings:
    """The parameters of the recipe."""

    foreground_channel: Annotated[
        int,
        Knob(
            "channel of the map of all objects, from 0; -1: the complement of the first class map",
            -1,
        ),
    ] = 0
    centre_channel: Annotated[
        int, Knob("channel of the heat map of centres, counted from 0", 0)
    ] = 1
    offset_channel: Annotated[
        int,
        Knob("first channel of the offsets along (z,) y and x to the centre, counted from 0", 0),
    ] = 2
    foreground_threshold: Annotated[
        float, Knob("minimum foreground probability of an object", 0, 1)
    ] = 0.5
    centre_threshold: Annotated[float, Knob("minimum height of a centre", 0)] = 0.1
    centre_distance: Annotated[
        int, Knob("a centre is the highest entry within this distance, px of the map along each "
                  "axis", 1,
                  grows=1)
    ] = 3  # fmt: skip
    min_size: Annotated[
        int,
        Knob("smallest object, px of the map; pixels of smaller objects join others", 0, grows=2),
    ] = 10
    three_planes: Annotated[
        bool, Knob("run a stack along z, y and x, and keep what two of the three agree on")
    ] = False
    class_channel: Annotated[
        int, Knob("first map of the classes of objects, or their number; -1: none", -1)
    ] = -1
    classes: Annotated[
        str,
        Knob("names of the classes in the order of their maps, comma-separated; empty: numbers"),
    ] = ""


def label_panoptic(output: AnyArray, grid: tuple[int, ...], settings: PanopticSettings) -> Labelled:
    """Assign every foreground pixel to the centre nearest to the position it points to.

    A centre whose own pixel points to another centre is discarded.

    Parameters
    ----------
    output : (c, (z,) y, x): foreground (probability), heat map of centres, and for each spatial
        axis the offset from a pixel to the centre of its object, entries of the map
    grid : spacing of the map, px of the input
    settings : the parameters

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is the height of its centre,
        its class that of most of its pixels

    Raises
    ------
    ChannelsDiffer
        The output has no such channels.
    """
    inside = _foreground(output, vars(settings))
    centres, heights = _centres(output, settings)
    labels = np.zeros(inside.shape, np.int32)
    targets = _targets(output, inside, settings.offset_channel)
    keeps = np.ones(len(centres), np.bool_)
    labels[inside] = _nearest(targets, centres, keeps)
    keeps = _are_centres(labels, centres) & (_counts(labels, len(centres)) >= settings.min_size)
    if not keeps.all():
        labels[inside] = _nearest(targets, centres, keeps)
    done = in_raster_order(on_input_grid(labels, grid), scored(heights))
    first, names = settings.class_channel, settings.classes
    classes = classes_from_maps(done.labels, output, first, names, "panoptic")
    return Labelled(done.labels, {**done.columns, **classes})


def _nearest(targets: FloatArray, centres: FloatArray, keeps: BoolArray) -> NDArray[np.intp]:
    # the number, from 1, of the centre nearest to each target; 0 if there is none
    if not keeps.any():
        return np.zeros(targets.shape[1], np.intp)
    from scipy.spatial import cKDTree  # here: it takes long to import

    nearest = cKDTree(centres[keeps]).query(targets.T)[1]
    numbers: NDArray[np.intp] = np.flatnonzero(keeps)[nearest] + 1
    return numbers


def _are_centres(labels: LabelArray, centres: FloatArray) -> BoolArray:
    # noise if the pixel there points to another centre; an object may be hollow in its middle
    there = labels[tuple(np.rint(centres).astype(np.intp).T)]
    own: BoolArray = (there == 0) | (there == np.arange(1, len(centres) + 1))
    return own


def _counts(labels: LabelArray, count: int) -> NDArray[np.intp]:
    return np.bincount(labels.reshape(-1), minlength=count + 1)[1:]


def _foreground(output: AnyArray, parameters: Mapping[str, Value]) -> BoolArray:
    channel = int(parameters["foreground_channel"])
    threshold = float(parameters["foreground_threshold"])
    if channel < 0:
        background = one_map("panoptic", output, int(parameters["class_channel"]))
        return np.asarray(background < 1 - threshold)
    return np.asarray(one_map("panoptic", output, channel) > threshold)


def _centres(output: AnyArray, settings: PanopticSettings) -> tuple[FloatArray, FloatArray]:
    # their positions, (n, axes), and heights, (n,); a plateau of the heat map is one centre
    heat = np.nan_to_num(
        np.asarray(one_map("panoptic", output, settings.centre_channel), np.float32)
    )
    peaks = peaks_of(heat, settings.centre_threshold, settings.centre_distance)
    numbers, count = ndimage.label(peaks, np.ones((3,) * peaks.ndim))
    places = np.argwhere(peaks)
    which = numbers[peaks] - 1
    per_centre = np.maximum(np.bincount(which, minlength=count), 1)
    sums = [np.bincount(which, along, minlength=count) for along in places.T]
    heights = np.zeros(count, np.float32)
    heights[which] = heat[peaks]
    return np.stack(sums, axis=1) / per_centre[:, None], heights


def _targets(output: AnyArray, inside: BoolArray, first: int) -> NDArray[np.float64]:
    # positions to which foreground pixels point, (axes, n) entries of the map
    axes = inside.ndim
    if first + axes > len(output):
        expected = f"{axes} offsets from channel {first} on, counted from 0,"
        raise ChannelsDiffer("panoptic", expected, len(output))
    far = float(max(inside.shape))
    offsets = np.stack([np.asarray(output[first + axis][inside]) for axis in range(axes)])
    finite = np.nan_to_num(offsets.astype(np.float64), nan=0, posinf=far, neginf=-far)
    places = np.stack(np.nonzero(inside)).astype(np.float64)
    return places + np.clip(finite, -far, far)


def offset_lengths(channels: int, axes: int, parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Return which channels hold offsets, which are lengths in px."""
    first = int(parameters["offset_channel"])
    return tuple(first <= channel < first + axes for channel in range(channels))


def _pointing_out(maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value]) -> BoolArray:
    # foreground without a centre, or with one outside this part of the map
    inside = _foreground(maps, parameters)
    lost: BoolArray = inside & (labels == 0)
    targets = _targets(maps, inside, int(parameters["offset_channel"]))
    reach = int(parameters["centre_distance"])
    last = np.array(inside.shape)[:, None] - 1 - reach
    lost[inside] |= ((targets < reach) | (targets > last)).any(axis=0)
    return lost


def _centre_reach(_maps: LazyArray, parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    return int(parameters["centre_distance"])


PANOPTIC = Recipe(
    name="panoptic",
    what="foreground, heat map of centres, offsets to them: pixels join the centre they point to",
    source="Cheng et al. 2020, Panoptic-DeepLab, arXiv 1911.10194; Conrad and Narayan 2023, "
    "MitoNet, doi 10.1016/j.cels.2022.12.006",
    label=label_panoptic,
    settings=PanopticSettings,
    in_blocks=InBlocks(least_overlap=_centre_reach, unlabelled=_pointing_out),
    lengths=offset_lengths,
    three_planes=lambda parameters: bool(parameters["three_planes"]),
)
"""The recipe of MitoNet and other networks that predict centres and offsets."""
