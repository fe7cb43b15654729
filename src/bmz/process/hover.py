"""The label recipe ``hover``: maps of horizontal and vertical position split touching nuclei."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, LazyArray
from bmz.base.axes import Box, boxes
from bmz.base.values import dataclass
from bmz.process.distance_watershed import flooded
from bmz.process.object_classes import classes_from_maps
from bmz.process.object_columns import scored
from bmz.process.recipe import InBlocks, Knob, Labelled, ParameterRefused, Recipe, Value
from bmz.process.relabel import (
    ChannelsDiffer,
    connected,
    mean_of_each,
    on_input_grid,
    one_map,
    renumbered,
    require_plane,
    without_small,
)

BRUSH_PX = 3
"""How far beyond the reach of the filter a value of the maps influences the markers."""

BRUSH = ((3, 5), (5, 1))
"""Structuring element of the opening of markers: an ellipse of 5 x 5 px, as two rectangles with
the same centre."""

SIDE_AT_ONCE = 1024


@dataclass(frozen=True)
class HoverSettings:
    """Parameters of the recipe."""

    foreground_channel: Annotated[
        int, Knob("channel of the map of all nuclei, counted from 0", 0)
    ] = 0
    horizontal_channel: Annotated[
        int, Knob("channel of the position from left (-1) to right (1) within a nucleus", 0)
    ] = 1
    vertical_channel: Annotated[
        int, Knob("channel of the position from top (-1) to bottom (1) within a nucleus", 0)
    ] = 2
    foreground_threshold: Annotated[
        float, Knob("minimum foreground probability of a nucleus", 0, 1)
    ] = 0.5
    edge_threshold: Annotated[
        float, Knob("minimum edge between nuclei, as a share of the sharpest edge", 0, 1)
    ] = 0.4
    filter_size: Annotated[
        int, Knob("size of the Sobel filter for these edges, px of the map; odd", 3,
                  grows=1)
    ] = 21  # fmt: skip
    min_size: Annotated[int, Knob("smallest nucleus and smallest marker, px of the map", 0,
                                  grows=2)] = 10  # fmt: skip
    keep_unmarked: Annotated[
        bool, Knob("a connected foreground without a marker is one nucleus; false: it is none, "
                   "as in HoVer-Net")
    ] = True  # fmt: skip
    class_channel: Annotated[
        int, Knob("first map of the classes of nuclei, or their number; -1: none", -1)
    ] = -1
    classes: Annotated[
        str,
        Knob("names of the classes in the order of their maps, comma-separated; empty: numbers"),
    ] = ""
    slopes: Annotated[
        str,
        Knob(
            "lowest and highest slope of the horizontal and of the vertical map, between which "
            "edges are measured, as low,high;low,high; empty: from the map"
        ),
    ] = ""


def label_hover(output: AnyArray, grid: tuple[int, ...], settings: HoverSettings) -> Labelled:
    """Label nuclei by a watershed from the foreground without the edges between nuclei.

    At the edge between two nuclei the position maps fall from 1 to -1, which a Sobel filter finds.

    Parameters
    ----------
    output : (c, y, x), of which three channels are read; values that are not numbers count as 0
    grid : spacing of the map, px of the input
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is its mean foreground, and
        its class is that of most of its pixels

    Raises
    ------
    DimensionsNotDone, ChannelsDiffer
        The output is not a plane, or lacks a channel.
    ParameterRefused
        `slopes` is not four numbers.
    """
    require_plane("hover", output)
    foreground = _finite(
        np.asarray(one_map("hover", output, settings.foreground_channel), np.float32)
    )
    parts, _ = connected(foreground >= settings.foreground_threshold)
    parts = without_small(parts, settings.min_size, (1, 1))
    mask = parts > 0
    edge = _edges(output, settings)
    edge -= ~mask
    markers = _markers(parts, mask & (edge < settings.edge_threshold), settings)
    labels = flooded(_basins(edge, mask), markers, mask)
    labels = on_input_grid(renumbered(labels), grid)
    scores = scored(mean_of_each(labels, on_input_grid(foreground, grid)))
    first, names = settings.class_channel, settings.classes
    return Labelled(labels, {**scores, **classes_from_maps(labels, output, first, names, "hover")})


def _markers(parts: LabelArray, inner: BoolArray, settings: HoverSettings) -> LabelArray:
    markers = _brushed(filled(inner), settings.min_size)
    if settings.keep_unmarked:
        marked = np.bincount(parts[markers > 0], minlength=int(parts.max(initial=0)) + 1) > 0
        marked[0] = True  # the background
        if not marked.all():
            others = _brushed(~marked[parts], settings.min_size)
            markers = np.where(others > 0, others + markers.max(initial=0), markers)
    return markers


def _brushed(inside: BoolArray, min_size: int) -> LabelArray:
    # connected components of the opened mask
    return without_small(connected(opened(inside))[0], min_size, (1, 1))


def filled(inside: BoolArray) -> BoolArray:
    """Fill holes as ``scipy.ndimage.binary_fill_holes`` does, but without iterative dilation.

    Parameters
    ----------
    inside : (y, x)
    """
    parts, _ = connected(np.pad(~inside, 1, constant_values=True))
    whole: BoolArray = parts[1:-1, 1:-1] != parts[0, 0]
    return whole


def opened(inside: BoolArray) -> BoolArray:
    """Open a mask with the structuring element `BRUSH`, as ``scipy.ndimage.binary_opening`` does.

    Parameters
    ----------
    inside : (y, x)
    """
    return _brush(_brush(inside, np.logical_and), np.logical_or)


def _brush(inside: BoolArray, every_or_any: np.ufunc) -> BoolArray:
    # combine the pixels that the structuring element covers around each pixel
    seen = []
    for sides in BRUSH:
        part = np.pad(inside, [(side // 2, side // 2) for side in sides])
        for axis, side in enumerate(sides):
            size = part.shape[axis] - side + 1
            cut = [(slice(None),) * axis + (slice(k, k + size),) for k in range(side)]
            part = reduce(every_or_any, (part[window] for window in cut))
        seen.append(part)
    brushed: BoolArray = reduce(every_or_any, seen)
    return brushed


def _basins(edge: FloatArray, mask: BoolArray) -> FloatArray:
    # the surface to flood: low away from edges, smoothed by OpenCV's 3 x 3 px Gaussian
    hills = np.maximum(edge, 0)
    np.subtract(1, hills, out=hills)
    hills *= mask
    kernel = np.array([0.25, 0.5, 0.25])
    hills = ndimage.in_tiles(lambda part: _filtered(part, (kernel, kernel), (0, 1)), hills, (1, 1))
    return np.subtract(1, hills, out=hills)


def _edges(output: AnyArray, settings: HoverSettings) -> FloatArray:
    # (y, x), 1 where a map falls most steeply, 0 where both rise most steeply
    channels = (settings.horizontal_channel, settings.vertical_channel)
    falls = []
    for channel, axis, known in zip(channels, (1, 0), _slopes(settings.slopes), strict=True):
        slope = _slope(one_map("hover", output, channel), axis, settings.filter_size)
        low, high = known or (slope.min(initial=np.inf), slope.max(initial=-np.inf))
        if low < high:
            slope -= low
            slope /= high - low
            np.subtract(1, slope, out=slope)
        else:
            slope[...] = 1
        falls.append(slope)
    steepest: FloatArray = np.maximum(falls[0], falls[1], out=falls[0])
    return steepest


def _slope(values: AnyArray, axis: int, size_px: int) -> NDArray[np.float64]:
    """Apply the Sobel filter: the derivative along one axis, smoothing along the other."""
    order = size_px // 2 * 2
    kernels = np.convolve(_binomial(order - 1), [-1, 1]), _binomial(order)
    slope: NDArray[np.float64] = ndimage.in_tiles(
        lambda part: _filtered(part, kernels, (axis, 1 - axis)),
        _finite(np.asarray(values, np.float64), infinite=0),
        (order // 2, order // 2),
    )
    return slope


def _filtered(
    values: NDArray[np.float64], kernels: tuple[AnyArray, AnyArray], axes: tuple[int, int]
) -> NDArray[np.float64]:
    # like scipy.ndimage.correlate1d with "mirror", along one axis and then along the other
    from bmz.process.watershed_loops import along_columns, along_rows

    for kernel, axis in zip(kernels, axes, strict=True):
        weights = np.pad(kernel, len(kernel) // 2 % 2)  # the loops take two pairs at a time
        reach, size = len(weights) // 2, values.shape[axis]
        place, out = np.pad(np.arange(size), reach, mode="reflect"), np.empty_like(values)
        sign = 1.0 if weights[reach - 1] == weights[reach + 1] else -1.0
        if axis:
            along_rows(values, weights, sign, place, np.empty(len(place)), out)
        else:
            along_columns(values, weights, sign, place, out)
        values = out
    return values


def _finite(values: AnyArray, infinite: float | None = None) -> AnyArray:
    # values that are not numbers count as 0
    if np.isfinite(values.sum()):
        return values
    known: AnyArray = np.nan_to_num(values, posinf=infinite, neginf=infinite)
    return known


def _binomial(order: int) -> NDArray[np.float64]:
    kernel = np.ones(1)
    for _ in range(order):
        kernel = np.convolve(kernel, [0.5, 0.5])
    return kernel


def _slopes(text: str) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    if not text:
        return None, None
    try:
        (left, right), (top, bottom) = (map(float, pair.split(",")) for pair in text.split(";"))
    except ValueError as why:
        reason = f"'{text}' is not low,high;low,high"
        raise ParameterRefused("hover", "slopes", reason, HOVER.known()) from why
    return (left, right), (top, bottom)


def slopes_of_whole_map(maps: LazyArray, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Compute the range of slopes that scales edges; see `Recipe.of_whole_map`."""
    if parameters["slopes"]:
        return {}
    pairs = []
    for name, axis in (("horizontal_channel", 1), ("vertical_channel", 0)):
        channel = int(parameters[name])
        if channel >= maps.shape[0]:
            raise ChannelsDiffer("hover", f"a channel {channel}, counted from 0", maps.shape[0])
        parts = _slopes_of_parts(maps, channel, axis, int(parameters["filter_size"]))
        limits = [(float(part.min()), float(part.max())) for part in parts]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        pairs.append(f"{low!r},{high!r}")
    return {"slopes": ";".join(pairs)}


def _slopes_of_parts(
    maps: LazyArray, channel: int, axis: int, size_px: int
) -> Iterator[NDArray[np.float64]]:
    shape = maps.shape[1:]
    for box in boxes(shape, (SIDE_AT_ONCE, SIDE_AT_ONCE)):
        wide: Box = tuple(
            slice(max(s.start - size_px, 0), min(s.stop + size_px, n))
            for s, n in zip(box, shape, strict=True)
        )
        inner = tuple(
            slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True)
        )
        part = np.asarray(maps[(slice(channel, channel + 1), *wide)])[0]
        yield _slope(part, axis, size_px)[inner]


def _unlabelled(maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value]) -> BoolArray:
    foreground = maps[int(parameters["foreground_channel"])]
    lost: BoolArray = (foreground >= parameters["foreground_threshold"]) & (labels == 0)
    return lost


def _reach(_maps: LazyArray, parameters: Mapping[str, Value], _grid: Sequence[int]) -> int:
    return int(parameters["filter_size"]) // 2 + BRUSH_PX


HOVER = Recipe(
    name="hover",
    what="foreground and the horizontal and vertical position in a nucleus: watershed between "
    "edges",
    source="Graham et al. 2019, HoVer-Net, doi 10.1016/j.media.2019.101563",
    label=label_hover,
    settings=HoverSettings,
    of_whole_map=slopes_of_whole_map,
    in_blocks=InBlocks(least_overlap=_reach, unlabelled=_unlabelled, reach=_reach),
)
"""Label recipe of HoVer-Net, CellViT and PathoSAM."""
