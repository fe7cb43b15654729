"""The label recipe ``contour``: foreground without contours, grown back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, LabelArray, LazyArray
from bmz.base.values import dataclass
from bmz.plan.tile_way import TileWay
from bmz.process.blocks import OTSU, streamed_otsu, threshold_of
from bmz.process.distance_watershed import watershed
from bmz.process.object_columns import scored
from bmz.process.ops_values import ACTIVATIONS, ActivatedMaps, activated
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import (
    ChannelsDiffer,
    are_shares,
    in_raster_order,
    mean_of_each,
    on_input_grid,
    without_small,
)


def with_ring(labels: LabelArray, surface: AnyArray, ring: int) -> LabelArray:
    """Expand each label by `ring` pixels into the background.

    A foreground that was trained on cells without their outermost pixels (``find_boundaries`` of
    scikit-image, inner or thick) yields cells that are one pixel too small on every side, however
    sharp or blurred the map is. Each step adds the background pixels that share a face with a
    label. Labels never merge: a pixel between two labels goes to the one whose adjacent pixel
    is lower on the surface.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    surface : same shape, low inside cells
    ring : width in pixels of the map
    """
    for _ in range(ring):
        labels = _wider(labels, surface)
    return labels


def _wider(labels: LabelArray, surface: AnyArray) -> LabelArray:
    wider, lowest = labels.copy(), np.full(labels.shape, np.inf, np.float32)
    for axis in range(labels.ndim):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        for here, there in ((ahead, behind), (behind, ahead)):
            taken = (labels[here] == 0) & (labels[there] > 0) & (surface[there] < lowest[here])
            wider[here][taken] = labels[there][taken]
            lowest[here][taken] = surface[there][taken]
    return wider


MEANINGS = {
    "F": "foreground",
    "B": "background",
    "M": "mask",
    "C": "contour",
    "T": "touching",
    "P": "point",
    "D": "distance",
    "Db": "distance",
    "Dn": "distance",
    "Dc": "centre",
}
"""What the channel of each letter shows; a channel marked ``-`` is not read."""

ABOVE = ("foreground", "point", "distance")
"""Maps that exceed their thresholds in a seed, while those of `BELOW` do not; absent ones are
ignored."""

BELOW = ("contour", "touching", "centre", "background")


AS_SEEDS_ASK = -1
"""The value for a default that depends on the seeds: if they are points, they are smaller, and the
surface is smoothed because points lie far from where cells meet. A multiple of this value
multiplies the default: -2 doubles the smallest seed size or the sigma of the Gaussian."""

LEAST_SEED_PX, LEAST_POINT_PX = 10, 5
"""Smallest seed and smallest point, px of the input. BiaPy trains a point as a pixel with its
neighbours: 5 px in a plane, 7 in a stack."""

SIGMA_OF_POINTS, SIGMAS_SEEN = 1.0, 1.0
"""Sigma of the Gaussian that BiaPy 3.7.1 applies before flooding, in pixels of the map, and the
number of sigmas at which it is truncated."""


def _threshold(letters: str, high: float | None) -> Knob:
    return Knob(
        f"of {letters}; -1: by Otsu's method",
        OTSU,
        high,
        cures=(0.3, 0.5, 0.7) if letters == "F" else (),
    )


@dataclass(frozen=True)
class ContourSettings:
    """Parameters of the recipe; each threshold is named after what its map shows."""

    channels: Annotated[
        str,
        Knob(
            "letter of each channel: F foreground, B background, M mask, C contour, T touching, "
            "P points, D, Db or Dn distance to the edge, Dc to the centre, - none"
        ),
    ] = "F+C"
    foreground_threshold: Annotated[float, _threshold("F", 1)] = OTSU
    background_threshold: Annotated[float, _threshold("B", 1)] = OTSU
    mask_threshold: Annotated[float, _threshold("M", 1)] = OTSU
    contour_threshold: Annotated[float, _threshold("C", 1)] = OTSU
    touching_threshold: Annotated[float, _threshold("T", 1)] = OTSU
    point_threshold: Annotated[float, _threshold("P", 1)] = OTSU
    distance_threshold: Annotated[float, _threshold("D, Db or Dn", None)] = OTSU
    centre_threshold: Annotated[float, _threshold("Dc", None)] = OTSU
    growth: Annotated[
        float, Knob("cells fill the area above this share of the threshold of F or M", 0, 1)
    ] = 1.0
    ring: Annotated[
        int, Knob("px of the map by which cells grow at the end, for F without contour", 0, grows=1)
    ] = 0
    seed_size: Annotated[
        float,
        Knob(
            f"smallest seed, px of the input; 0: all; -1: {LEAST_SEED_PX}, or {LEAST_POINT_PX} "
            "for points",
            AS_SEEDS_ASK,
            grows=2,
        ),
    ] = AS_SEEDS_ASK
    surface: Annotated[
        str,
        Knob(
            "what is flooded; auto: the foreground, else the distance or the mask",
            choices=("auto", "foreground", "contour", "distance", "mask"),
        ),
    ] = "auto"
    smooth_surface: Annotated[
        float,
        Knob(
            "Gaussian of what is flooded, px of the map; -1: 1 with points, else 0",
            AS_SEEDS_ASK,
            grows=1,
        ),
    ] = float(AS_SEEDS_ASK)
    activation: Annotated[
        str, Knob("function that turns logits into probabilities", choices=ACTIVATIONS)
    ] = "none"


def label_contours(output: AnyArray, grid: tuple[int, ...], settings: ContourSettings) -> Labelled:
    """Label cells by a watershed from connected regions of foreground without contour.

    This is BiaPy's watershed by channels. Seeds are face-connected regions where foreground (F),
    point (P) and distance to the edge (D, Db, Dn) exceed their thresholds, and contour (C),
    touching (T), distance to the centre (Dc) and background (B) do not; absent channels are
    ignored. If there are points, they replace foreground and distance. Seeds that are too small
    are noise and are dropped. Cells fill the mask (M) if there is one, otherwise whatever is not
    background (B), otherwise the foreground, to which the contour is added if channels exclude
    each other. M and F count where they exceed `growth` times their threshold.

    BiaPy grows every cell at half of the threshold (`growth` 0.5). That restores a cell only as
    far as its outline is blurred, and makes a cell too large if its foreground was complete. The
    default is therefore to grow at the threshold. If the foreground was trained without the
    outermost pixels of every cell, where the contour is, `ring` adds them at the end.

    Parameters
    ----------
    output : (c, (z,) y, x), probabilities and distances
    grid : spacing of the map, px of the input
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is its mean foreground

    Raises
    ------
    ChannelsDiffer
        `channels` has the wrong number of letters, contains an unknown letter, or names no
        foreground, mask or background.
    """
    output = activated(output, settings.activation)
    maps = named_maps(output, settings.channels)
    limits = {
        name: threshold_of(values, getattr(settings, f"{name}_threshold"))
        for name, values in maps.items()
    }
    parts, _ = ndimage.label(seeds_of(maps, limits))
    parts = without_small(parts, _least_seed_px(maps, settings.seed_size), grid)
    surface = _surface(maps, settings.surface)
    mask = mask_of(maps, _grown(limits, settings.growth), shares=are_shares(output))
    labels = watershed(_smoothed(surface, maps, settings.smooth_surface), parts, mask)
    labels = with_ring(labels, surface, settings.ring)
    labelled = in_raster_order(on_input_grid(labels, grid))
    inside = on_input_grid(maps.get("foreground", -surface), grid)
    return Labelled(labelled.labels, scored(mean_of_each(labelled.labels, inside)))


def named_maps(output: AnyArray, channels: str) -> dict[str, AnyArray]:
    """Return the maps of a (c, (z,) y, x) output by what they show; see `named_channels`."""
    return {name: output[at] for name, at in named_channels(channels, len(output)).items()}


def named_channels(channels: str, count: int) -> dict[str, int]:
    """Return the index of each named channel, by what it shows.

    Parameters
    ----------
    channels : a letter of `MEANINGS` or ``-`` for each channel, joined by ``+``
    count : number of channels of the output

    Raises
    ------
    ChannelsDiffer
        The number of letters is not `count`, a letter is unknown, or none is F, M or B.
    """
    letters = channels.replace(" ", "").split("+")
    unknown = [letter for letter in letters if letter != "-" and letter not in MEANINGS]
    if len(letters) != count or unknown:
        known = f"one letter per channel ({', '.join(MEANINGS)} or -), not '{channels}'"
        raise ChannelsDiffer("contour", known, count)
    places = {MEANINGS[letter]: at for at, letter in enumerate(letters) if letter != "-"}
    if not {"foreground", "mask", "background"} & set(places):
        raise ChannelsDiffer("contour", "a channel F, M or B among its channels", count)
    return places


def seeds_of(maps: Mapping[str, AnyArray], limits: Mapping[str, float]) -> BoolArray:
    """Return the mask of the seeds that `label_contours` describes."""
    above: Sequence[str] = ("point",) if "point" in maps else ABOVE
    inside = np.ones(next(iter(maps.values())).shape, np.bool_)
    for name in above:
        if name in maps:
            inside &= maps[name] > limits[name]
    if not {"foreground", "point"} & set(maps) and "mask" in maps:
        inside &= maps["mask"] > limits["mask"]
    for name in BELOW:
        if name in maps:
            inside &= ~(maps[name] > limits[name])
    return inside


def mask_of(
    maps: Mapping[str, AnyArray], limits: Mapping[str, float], *, shares: bool
) -> BoolArray:
    """Return the mask that cells may fill, as `label_contours` describes.

    Parameters
    ----------
    shares : whether the channels exclude each other
    """
    if "mask" in maps:
        mask: BoolArray = maps["mask"] > limits["mask"]
        return mask
    if "background" in maps:
        return ~(maps["background"] > limits["background"])
    cell = maps["foreground"]
    if shares and "contour" in maps:
        cell = cell + maps["contour"]
    return np.asarray(cell > limits["foreground"])


def thresholds_of_whole_map(
    maps: LazyArray,
    parameters: Mapping[str, Value],
) -> dict[str, Value]:
    """Compute every threshold that is set to Otsu's method; see `Recipe.of_whole_map`."""
    places = named_channels(str(parameters["channels"]), maps.shape[0])
    probabilities = ActivatedMaps(maps, str(parameters["activation"]))
    return {
        f"{name}_threshold": streamed_otsu(probabilities, at)
        for name, at in places.items()
        if parameters[f"{name}_threshold"] == OTSU
    }


def _grown(limits: Mapping[str, float], growth: float) -> dict[str, float]:
    return {
        name: limit * growth if name in {"foreground", "mask"} else limit
        for name, limit in limits.items()
    }


def _least_seed_px(maps: Mapping[str, AnyArray], asked: float) -> float:
    if asked >= 0:
        return asked
    return asked / AS_SEEDS_ASK * (LEAST_POINT_PX if "point" in maps else LEAST_SEED_PX)


def _smoothed(surface: AnyArray, maps: Mapping[str, AnyArray], asked: float) -> AnyArray:
    sigma = asked
    if asked < 0:
        sigma = asked / AS_SEEDS_ASK * SIGMA_OF_POINTS if "point" in maps else 0.0
    if sigma == 0:
        return surface
    sigmas = (sigma,) * surface.ndim
    return ndimage.smoothed(surface, sigmas, mode="nearest", truncate=SIGMAS_SEEN)


def _surface(maps: Mapping[str, AnyArray], asked: str) -> AnyArray:
    order = ("foreground", "distance", "mask") if asked == "auto" else (asked,)
    for name in order:
        if name in maps:
            return maps[name] if name in BELOW else -maps[name]
    if asked == "auto":
        return maps["background"]
    raise ChannelsDiffer("contour", f"a map of the {asked}, which is to be flooded", len(maps))


CONTOUR = Recipe(
    name="contour",
    what="foreground and contour, mask, points or distances: watershed from what is certainly "
    "inside",
    source="Franco-Barranco et al. 2025, doi 10.1038/s41592-025-02699-y; BiaPy 3.7.1, which grows "
    "at half of the threshold, keeps every seed, does not read M and regains no ring",
    label=label_contours,
    in_blocks=InBlocks(),
    of_whole_map=thresholds_of_whole_map,
    tiles=TileWay(source="BiaPy 3.7.1, crop_data_with_overlap: mirrored, by 0 px unless asked for"),
    settings=ContourSettings,
)
"""Label recipe of BiaPy's models."""
