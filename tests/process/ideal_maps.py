"""What a perfect network of each family would give for known objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage
from skimage.draw import ellipse
from skimage.segmentation import find_boundaries, watershed

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.affinity_maps import Offset
from bmz.process.heat import flows_of_labels
from bmz.process.recipe import Finish, Labelled, Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import finish_labels, in_raster_order
from bmz.process.star_polygons import directions

NEAR = ((-1, 0), (0, -1))
FAR = ((-5, 0), (0, -5), (-5, -5), (-5, 5))
RAYS = 64
RAY_PX = np.arange(0, 60, 0.25)
"""Distances at which a ray is looked at."""


def cells(seed: int, side: int = 96, count: int = 4) -> LabelArray:
    """Draw ellipses of many shapes, one in each square of a grid, some of which touch."""
    rng = np.random.default_rng(seed)
    pitch = side / count
    labels = np.zeros((side, side), np.int32)
    for number in range(count * count):
        row, column = divmod(number, count)
        y, x = ((at + 0.5 + rng.uniform(-0.05, 0.05)) * pitch for at in (row, column))
        size = rng.uniform(0.3, 0.46, 2) * pitch
        inside = ellipse(y, x, *size, shape=labels.shape, rotation=rng.uniform(0, np.pi))
        free = labels[inside] == 0
        labels[inside[0][free], inside[1][free]] = number + 1
    return in_raster_order(labels).labels


def filling(labels: LabelArray) -> LabelArray:
    """Let objects grow until they fill the image."""
    grown: LabelArray = watershed(labels == 0, labels)
    return grown


def foreground(labels: LabelArray) -> FloatArray:
    return (labels > 0).astype(np.float32)


def contour(labels: LabelArray) -> FloatArray:
    edge: AnyArray = find_boundaries(labels, mode="inner")
    return edge.astype(np.float32)


def boundary(labels: LabelArray) -> FloatArray:
    edge: AnyArray = find_boundaries(labels, mode="thick")
    return edge.astype(np.float32)


def distances_within(labels: LabelArray) -> tuple[FloatArray, FloatArray]:
    """Give the distance to the centre and the nearness to the edge, as micro-sam is trained on."""
    centre, edge = (np.ones(labels.shape, np.float32) for _ in range(2))
    for number in range(1, int(labels.max()) + 1):
        inside = labels == number
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        middle = np.unravel_index(depth.argmax(), depth.shape)
        away = np.sqrt(
            sum((at - m) ** 2 for at, m in zip(np.indices(depth.shape), middle, strict=True))
        )
        centre[inside] = away[inside] / max(away[inside].max(), 1)
        edge[inside] = 1 - depth[inside] / depth.max()
    return centre, edge


def without_contour(labels: LabelArray) -> FloatArray:
    """Give the foreground as BiaPy trained it until 3.6.3: cells without their outermost px."""
    return foreground(labels) * (1 - contour(labels))


def points(labels: LabelArray, radius: int = 2) -> FloatArray:
    """Give a spot in the middle of each object."""
    found = np.zeros(labels.shape, np.bool_)
    for place in ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1)):
        found[tuple(round(at) for at in place)] = True
    spots: AnyArray = ndimage.binary_dilation(found, iterations=radius)
    return spots.astype(np.float32)


STRENGTHS: Mapping[str, tuple[float, float, float]] = {
    "ideal": (0, 0, 1),
    "light": (0.7, 0.1, 1),
    "medium": (1.2, 0.25, 0.9),
    "strong": (2, 0.5, 0.8),
}
"""Blur (px), noise (standard deviation) and gain of maps that are not ideal."""


def degraded(maps: FloatArray, strength: str, *, each_pixel: bool = False) -> FloatArray:
    """Blur maps (c, (z,) y, x), let them fade and add noise, of `STRENGTHS`; within 0 and 1.

    The noise is as smooth as the maps, or differs from pixel to pixel.
    """
    blur, deviation, gain = STRENGTHS[strength]
    noise = np.random.default_rng(0).normal(0, deviation, maps.shape)
    along_space = (0,) + (blur,) * (maps.ndim - 1)
    smooth: AnyArray = ndimage.gaussian_filter(gain * maps + noise * (not each_pixel), along_space)
    noisy: AnyArray = np.clip(smooth + noise * each_pixel, 0, 1)
    return noisy.astype(np.float32)


def inner_distance(labels: LabelArray) -> FloatArray:
    """Give 1 / (1 + a d), d the distance to the middle of the object and a its area to -1/2.

    Source: Greenwald et al. 2022, doi 10.1038/s41587-021-01094-0.
    """
    result = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = labels[box] == number
        place = np.stack(np.nonzero(own)).astype(np.float64)
        away = np.sqrt(np.square(place - place.mean(axis=1, keepdims=True)).sum(axis=0))
        result[box][own] = 1 / (1 + away / np.sqrt(own.sum()))
    return result


def affinities(labels: LabelArray, offsets: tuple[Offset, ...]) -> FloatArray:
    """Give 1 where a pixel and the one at the offset lie in the same object."""
    padded = np.pad(labels, 32, constant_values=-1)
    inner = (slice(32, -32),) * labels.ndim
    same = [labels == np.roll(padded, [-o for o in offset], range(labels.ndim))[inner]
            for offset in offsets]  # fmt: skip
    return np.stack(same).astype(np.float32)


def together(labels: LabelArray) -> FloatArray:
    """Give the affinities to the direct neighbours before each pixel as BiaPy 3.7.1 trains them.

    1 where both lie in the same object and not in the background; the first pixel of an axis has
    the value of the second (``seg2aff_pni``).
    """
    found = np.zeros((labels.ndim, *labels.shape), np.float32)
    for axis, values in enumerate(np.moveaxis(one, i, 0) for i, one in enumerate(found)):
        along = np.moveaxis(labels, axis, 0)
        values[1:] = (along[1:] == along[:-1]) & (along[1:] > 0)
        values[0] = values[1]
    return found


def soft(maps: FloatArray, blur: float, noise: float) -> FloatArray:
    """Give maps as a network does: of logits that are blurred (px) and have smooth noise."""
    rng = np.random.default_rng(0)
    logits = [ndimage.gaussian_filter(12 * one - 6, blur) for one in maps]
    smooth = [ndimage.gaussian_filter(rng.standard_normal(one.shape), 1) for one in maps]
    noisy = [one + noise * wave / wave.std() for one, wave in zip(logits, smooth, strict=True)]
    shares: AnyArray = 1 / (1 + np.exp(-np.stack(noisy)))
    return shares.astype(np.float32)


def places_within(labels: LabelArray) -> FloatArray:
    """Give the horizontal and the vertical place in an object, from -1 to 1 around its middle.

    Source: Graham et al. 2019, doi 10.1016/j.media.2019.101563.
    """
    result = np.zeros((2, *labels.shape), np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = labels[box] == number
        for channel, at in enumerate(np.nonzero(own)[::-1]):
            away = at - np.rint(at.mean())
            for side in (away < 0, away > 0):
                away[side] /= max(abs(away[side]).max(initial=0), 1)
            result[channel][box][own] = away
    return result


def centres_and_offsets(labels: LabelArray) -> FloatArray:
    """Give a heat map of the middles of objects, and the offsets of their pixels to them, px.

    Source: Cheng et al. 2020, arXiv 1911.10194, with a Gaussian of 3 px.
    """
    result = np.zeros((1 + labels.ndim, *labels.shape), np.float32)
    grid = np.indices(labels.shape)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = labels == number
        middle = np.array([at.mean() for at in np.nonzero(own)]).reshape(-1, *(1,) * labels.ndim)
        away = np.rint(middle) - grid
        heat = np.exp(-np.square(away).sum(axis=0) / 2 / 3**2)
        result[0] = np.maximum(result[0], heat * (box is not None))
        result[1:, own] = (middle - grid)[:, own]
    return result


def discs(labels: LabelArray, radius: int = 2) -> LabelArray:
    """Give a disc in the middle of each object."""
    found = np.zeros(labels.shape, np.int32)
    for place in ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1)):
        found[tuple(int(at + 0.5) for at in place)] = 1
    parts, _ = ndimage.label(ndimage.distance_transform_edt(found == 0) <= radius)
    return in_raster_order(parts).labels


def spots(labels: LabelArray) -> FloatArray:
    """Give a heat map with a Gaussian of 1.5 px in the middle of each object, and of height 1."""
    found = np.ones(labels.shape, np.bool_)
    for place in ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1)):
        found[tuple(int(at + 0.5) for at in place)] = False
    heat: AnyArray = np.exp(-np.square(ndimage.distance_transform_edt(found)) / 2 / 1.5**2)
    return (heat * (not found.all())).astype(np.float32)


def star_distances(labels: LabelArray, rays: int = RAYS) -> FloatArray:
    """Give the distance to the edge of the object along each ray, in steps of a quarter px."""
    padded = np.pad(labels, int(RAY_PX[-1]) + 1).ravel()
    width = labels.shape[1] + 2 * int(RAY_PX[-1]) + 2
    places = np.flatnonzero(padded)
    own = padded[places]
    distances = np.empty((rays, places.size), np.float32)
    for ray, direction in enumerate(directions(rays).T):
        y, x = np.rint(np.outer(direction, RAY_PX)).astype(np.intp)
        offsets = y * width + x
        inside = np.arange(places.size)
        for step in np.flatnonzero(np.diff(offsets)) + 1:  # where it comes to another pixel
            stays = padded[places[inside] + offsets[step]] == own[inside]
            distances[ray, inside[~stays]] = RAY_PX[step - 1]
            inside = inside[stays]
            if not inside.size:
                break
        distances[ray, inside] = RAY_PX[-1]
    result = np.zeros((rays, *labels.shape), np.float32)
    result[:, labels > 0] = distances
    return result


def probability(labels: LabelArray) -> FloatArray:
    """Give the distance to the edge over its maximum in the object, as StarDist is trained."""
    result = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = np.pad(labels[box] == number, 1)
        depth = ndimage.distance_transform_edt(own)[1:-1, 1:-1]
        own = own[1:-1, 1:-1]
        result[box][own] = (depth / depth.max())[own]
    return result


@dataclass(frozen=True)
class Family:
    """A recipe, the maps it wants, and the objects that they show.

    Parameters
    ----------
    recipe : its name
    maps : gives what a perfect network would give for objects
    objects : gives the objects that can be told apart in these maps
    parameters : of the recipe, other than its defaults
    exact : the objects come back to the pixel
    lost : share of the objects of real masks that the maps may not bring back at IoU 0.9
    """

    recipe: str
    maps: Callable[[LabelArray], FloatArray]
    objects: Callable[[LabelArray], LabelArray] = lambda labels: labels
    parameters: Mapping[str, Value] = field(default_factory=dict)
    exact: bool = True
    lost: float = 0.05


def apart(labels: LabelArray) -> LabelArray:
    """Take the pixels away where objects touch, so that only background lies between."""
    return in_raster_order(np.where(boundary(labels) > 0, 0, labels)).labels


def logit(labels: LabelArray) -> FloatArray:
    return np.where(labels > 0, np.float32(6), np.float32(-6))


def text(offsets: tuple[Offset, ...]) -> str:
    return ";".join(",".join(map(str, offset)) for offset in offsets)


FAMILIES = (
    # outlines of 64 rays, and nuclei that are not star-convex
    Family("stardist", lambda t: np.concatenate([probability(t)[None], star_distances(t)]),
           exact=False, lost=0.25),
    Family("flows", lambda t: np.concatenate([5 * flows_of_labels(t), logit(t)[None]]), lost=0.03),
    Family("mesmer", lambda t: np.stack([inner_distance(t), foreground(t) - contour(t) / 2]),
           parameters={"interior_smooth": 0.0}),
    # an object whose inside is smaller than a seed
    Family("contour", lambda t: np.stack([foreground(t), contour(t)]), lost=0.1),
    Family("contour", lambda t: np.stack([without_contour(t), contour(t)]),
           parameters={"ring": 1}, exact=False, lost=0.1),
    # an object whose inside is none, or in two parts
    Family("boundary", lambda t: np.stack([foreground(t), contour(t)]), lost=0.1),
    # boundaries two px thick leave little of a small nucleus
    Family("gasp", lambda t: boundary(filling(t))[None], filling,
           {"superpixel_size": 5, "min_size": 5}, exact=False, lost=0.25),
    Family("multicut", lambda t: boundary(filling(t))[None], filling,
           {"superpixel_size": 5, "min_size": 5}, exact=False, lost=0.25),
    Family("affinities", lambda t: affinities(filling(t), (*NEAR, *FAR)), filling,
           {"offsets": text((*NEAR, *FAR))}, lost=0.01),
    Family("affinities", lambda t: affinities(filling(t), NEAR), filling, lost=0.01),
    # nuclei of 8 px that touch, between which a filter of 21 px finds no edge
    Family("hover", lambda t: np.concatenate([foreground(t)[None], places_within(t)]),
           exact=False, lost=0.2),
    Family("panoptic", lambda t: np.concatenate([foreground(t)[None], centres_and_offsets(t)]),
           lost=0.02),
    Family("distances", lambda t: np.stack([foreground(t), *distances_within(t)]),
           parameters={"foreground_smoothing": 0.0}, exact=False, lost=0.1),
    Family("spots", lambda t: spots(t)[None], discs),
    # a nucleus with a neck
    Family("distance_watershed", lambda t: foreground(apart(t))[None], apart, lost=0.1),
    Family("components", lambda t: foreground(apart(t))[None], apart),
    Family("argmax", lambda t: np.stack([1 - foreground(apart(t)), foreground(apart(t))]), apart),
    Family("labels", lambda t: t[None].astype(np.float32), lost=0.0),
)  # fmt: skip
"""Every recipe that reads maps of the image."""

KINDS = ("background", "round", "long")
"""The classes of objects."""


def classes_of(labels: LabelArray) -> FloatArray:
    """Give a map for each of `KINDS`; those of the objects take turns."""
    kinds = np.where(labels > 0, 1 + labels % 2, 0)
    maps: FloatArray = (np.arange(len(KINDS))[:, None, None] == kinds).astype(np.float32)
    return maps


def classed(recipe: str, seed: int) -> tuple[Family, LabelArray, AnyArray]:
    """Give a family whose networks tell classes, objects, and the class of object k at k."""
    plain = next(family for family in FAMILIES if family.recipe == recipe)
    truth = cells(seed)
    first: dict[str, Value] = {}
    if recipe != "stardist":
        first = {"class_channel": len(plain.maps(truth))}
    own = replace(
        plain,
        maps=lambda t: np.concatenate([plain.maps(t), classes_of(t)]),
        parameters={**plain.parameters, **first, "classes": ",".join(KINDS)},
    )
    numbers = np.arange(int(truth.max()) + 1)
    return own, truth, np.array(KINDS)[np.where(numbers > 0, 1 + numbers % 2, 0)]


NAMES = [f"{family.recipe}-{n}" for n, family in enumerate(FAMILIES)]
"""Of each, as there are two ways of affinities and of contours."""


def name_of(family: Family) -> str:
    return next(name for name, one in zip(NAMES, FAMILIES, strict=True) if one is family)


def decoded(family: Family, maps: FloatArray, **finish: Value) -> Labelled:
    """Label as the program does, with the common finish."""
    recipe = RECIPES[family.recipe]
    parameters = recipe.parameters_from({**family.parameters, **finish}, {})
    found = recipe.apply(maps, (1,) * (maps.ndim - 1), parameters)
    return finish_labels(found, Finish.of(parameters, recipe.own))
