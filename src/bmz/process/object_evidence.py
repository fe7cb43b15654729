"""Measurements that indicate, without ground truth, whether each object of a mask is correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, median
from bmz.base.axes import Box
from bmz.base.values import dataclass
from bmz.check.pixel_values import percentiles
from bmz.process.object_columns import by_label
from bmz.process.object_shapes import DEPTHS_PX, Edges, Groups, Runs, runs_of
from bmz.process.relabel import closed_up

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_CHANNELS = 4
"""Number of channels of an image or a map that are measured; further ones are ignored."""

MARGIN_PX = DEPTHS_PX[1] + 1
"""How far a window must extend beyond its objects, if the plane continues there."""

LATTICE = 96
"""Points along the longer side of a plane at which its channels are sampled."""

UNDECIDED = (0.25, 0.75)
"""Values of a map that count as neither, relative to background (0) and objects (1)."""

SLACK = 0.01
"""Tolerance within which a map with values from 0 to 1 counts as a probability."""

NORMAL = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""

MOST = 100.0
"""Upper limit of a ratio."""

SHAPES = ("area", "elongation", "filled", "edges", "touching", "cut", "score")
OF_CHANNEL = ("mean", "spread", "beside", "around", "around_spread", "edge")


@dataclass(frozen=True)
class PlaneWindow:
    """A part of a plane that is measured at once; it contains whole objects and a margin.

    Parameters
    ----------
    labels : (h, w) 0 background
    owned : (n + 1,) whether each label is measured; the others only serve as surroundings
    planes : (c, h, w) the image channels that the network received
    maps : (k, my, mx) output of the network
    core : window without its margin, along y and x; the cores of all windows tile the plane
    box : position of the window in the plane, along y and x
    size : size of the plane, px
    scores : (n,) scores from the recipe, that of label k at index k - 1; empty for none
    grid : (h w,) the flat position in `maps` for each pixel; None if they are on the same grid
    """

    labels: AnyArray
    owned: BoolArray
    planes: AnyArray
    maps: AnyArray
    core: Box
    box: Box
    size: tuple[int, int]
    scores: AnyArray = field(default_factory=lambda: np.zeros(0))
    grid: Integers | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether the window covers the whole plane."""
        return self.core == self.box == tuple(slice(0, side) for side in self.size)


@dataclass(frozen=True)
class ObjectEvidence:
    """Measurements of the objects of a plane, and of the plane, in one or several windows.

    Parameters
    ----------
    label : (n,)
    shapes : (n, len(SHAPES))
    planes, maps : (c, n, len(OF_CHANNEL)), (k, ...) of the image channels and of the map; for a
        plane in one window only the channel that separates objects best, as no other is needed
    places : (p,) flat positions of the points of the lattice
    inside : (p,) whether each point is inside an object
    plane_points, map_points : (c, p), (k, p) values at the points
    plane_steps : (c, p) absolute differences between the points and their neighbours along x
    """

    label: Integers
    shapes: Floats
    planes: Floats
    maps: Floats
    places: Integers
    inside: BoolArray
    plane_points: Floats
    map_points: Floats
    plane_steps: Floats

    @classmethod
    def of(cls, window: PlaneWindow) -> ObjectEvidence:
        """Measure the objects of a window, and the points of the lattice in its core."""
        numbers, label = closed_up(window.labels)
        runs = runs_of(numbers)
        edges = Edges.of(numbers, runs)
        mine = np.flatnonzero(window.owned[label])
        pixels = _Pixels.of(numbers, edges, runs.count)
        on_maps = pixels.on(window.grid)
        places, inside, plane_points, map_points, steps = _lattice(window)
        of_plane = of_map = slice(None)
        if window.is_whole:  # otherwise the channel is unknown until all windows are joined
            of_plane = _telling(window.planes, pixels, mine, plane_points)
            of_map = _telling(window.maps, on_maps, mine, map_points)
        return cls(
            label=label[mine].astype(np.int64),
            shapes=_shapes(runs, edges, _cut(runs, window), by_label(window.scores, label))[mine],
            planes=_channels(window.planes[of_plane], pixels)[:, mine],
            maps=_channels(window.maps[of_map], on_maps)[:, mine],
            places=places,
            inside=inside,
            plane_points=plane_points[of_plane],
            map_points=map_points[of_map],
            plane_steps=steps[of_plane],
        )

    @classmethod
    def joined(cls, parts: Sequence[ObjectEvidence]) -> ObjectEvidence:
        """Join the windows of a plane, with objects ordered by label and points by position."""
        if len(parts) == 1:
            return parts[0]

        def together(name: str) -> AnyArray:
            return np.concatenate([vars(part)[name] for part in parts], _ALONG[name])

        orders = {key: np.argsort(together(key), kind="stable") for key in ("label", "places")}
        # one array after another, because an image may have hundreds of thousands of objects
        return cls(
            **{
                name: np.take(
                    together(name), orders["label" if name in _OF_OBJECTS else "places"], axis
                )
                for name, axis in _ALONG.items()
            }
        )

    @property
    def diameters(self) -> Floats:
        """Equivalent diameters, (n,), px."""
        return 2 * np.sqrt(self.shapes[:, SHAPES.index("area")] / np.pi)


_ALONG = {
    "label": 0, "shapes": 0, "planes": 1, "maps": 1, "places": 0, "inside": 0, "plane_points": 1,
    "map_points": 1, "plane_steps": 1,
}  # fmt: skip
"""The axis of each array along which its objects or points are arranged."""

_OF_OBJECTS = ("label", "shapes", "planes", "maps")


@dataclass(frozen=True)
class _Pixels:
    """The flat positions at which values are measured, and the objects there.

    Parameters
    ----------
    inside, rim : pixels of objects; pixels at edges, once per edge
    beside : pixels across an edge, if they are not in an object
    around : pixels further out, if they are background
    of_inside, of_rim, of_beside, of_around : the objects of these pixels
    """

    inside: Integers
    rim: Integers
    beside: Integers
    around: Integers
    of_inside: Groups
    of_rim: Groups
    of_beside: Groups
    of_around: Groups

    @classmethod
    def of(cls, numbers: AnyArray, edges: Edges, count: int) -> _Pixels:
        inside = np.flatnonzero(numbers > 0)
        own = numbers.reshape(-1)[inside].astype(np.int64) - 1
        owners = (own, edges.own, edges.own[edges.apart], edges.own[edges.free])
        further = edges.beside[edges.apart], edges.beyond[edges.free]
        return cls(inside, edges.pixel, *further, *(Groups.of(some, count) for some in owners))

    def on(self, grid: Integers | None) -> _Pixels:
        """Return the positions on another grid; see `PlaneWindow`."""
        if grid is None:
            return self
        names = ("inside", "rim", "beside", "around")
        return replace(self, **{name: grid[getattr(self, name)] for name in names})


def _channels(stack: AnyArray, pixels: _Pixels) -> Floats:
    """Measure each channel of (c, h, w) on the objects: (c, n, len(OF_CHANNEL))."""
    return np.stack([_of_channel(channel.reshape(-1), pixels) for channel in stack])


def _telling(stack: AnyArray, pixels: _Pixels, mine: Integers, points: Floats) -> slice:
    """Choose the same channel as `_best`, without measuring everything in each channel."""
    if len(stack) == 1:
        return slice(0, 1)
    steps = []
    for channel in stack.reshape(len(stack), -1):
        mean = pixels.of_inside.means(_finite(channel[pixels.inside])).astype(np.float32)
        around = pixels.of_around.means(_finite(channel[pixels.around])).astype(np.float32)
        steps.append((mean - around)[mine])
    best = _best(np.array(steps), points)
    return slice(best, best + 1)


def _of_channel(values: AnyArray, pixels: _Pixels) -> Floats:
    mean, spread = pixels.of_inside.moments(_finite(values[pixels.inside]))
    edge = pixels.of_rim.means(_finite(values[pixels.rim]))
    beside = pixels.of_beside.means(_finite(values[pixels.beside]))
    around, rough = pixels.of_around.moments(_finite(values[pixels.around]))
    return np.stack([mean, spread, beside, around, rough, edge], -1).astype(np.float32)


def _finite(values: AnyArray) -> Floats:
    numbers = values.astype(np.float64)
    if values.dtype.kind == "f" and not np.isfinite(numbers.sum()):
        return np.nan_to_num(numbers, posinf=0.0, neginf=0.0)
    return numbers


def _shapes(runs: Runs, edges: Edges, cut: BoolArray, scores: Floats) -> Floats:
    yy, xx, yx = runs.second_moments()
    yy, xx = yy + 1 / 12, xx + 1 / 12  # the second moment of a square pixel
    product = np.maximum(yy * xx - yx * yx, 1e-9)
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    elongation = np.sqrt((middle + apart) / np.maximum(middle - apart, 1e-9))
    filled = runs.sizes / (4 * np.pi * np.sqrt(product))
    faces = np.bincount(edges.own, minlength=runs.count)
    touching = np.bincount(edges.own[edges.touching], minlength=runs.count)
    share = touching / np.maximum(faces, 1)
    return np.stack([runs.sizes, elongation, filled, faces, share, cut, scores], -1)


def _cut(runs: Runs, window: PlaneWindow) -> BoolArray:
    cut = np.zeros(runs.count, np.bool_)
    for least, most, side, whole in zip(*runs.boxes(), window.box, window.size, strict=True):
        cut |= (least + side.start == 0) | (most + side.start == whole)
    return cut


def _lattice(
    window: PlaneWindow,
) -> tuple[Integers, BoolArray, Floats, Floats, Floats]:
    step = -(-max(window.size) // LATTICE)
    whole = [np.arange(min(step, n) // 2, n, step) for n in window.size]
    y, x = (
        points[(points >= side.start) & (points < side.stop)]
        for points, side in zip(whole, window.core, strict=True)
    )
    places = (y[:, None] * window.size[1] + x).reshape(-1)
    y, x = y - window.box[0].start, x - window.box[1].start
    last = window.labels.shape[1] - 1
    at, near = np.ix_(y, x), np.ix_(y, np.where(x < last, x + 1, max(last - 1, 0)))
    points, beside = (_finite(window.planes[(slice(None), *p)]) for p in (at, near))
    flat = (y[:, None] * (last + 1) + x).reshape(-1)
    flat = flat if window.grid is None else window.grid[flat]
    maps = _finite(window.maps.reshape(len(window.maps), -1)[:, flat])
    inside = window.labels[at].reshape(-1) > 0
    shape = (len(window.planes), len(places))  # a narrow window may contain no point
    steps = np.abs(beside - points)
    return places, inside, points.reshape(shape), maps, steps.reshape(shape)


OBJECT_FEATURES = (
    "size", "size_to_made", "diameter", "elongation", "filled", "rough", "cut", "touching",
    "score", "score_beside_others", "map_mean", "map_edge", "map_around", "map_spread", "sure",
    "map_steepness", "step", "step_beside_others", "step_to_noise", "texture", "texture_around",
    "steepness", "edge_width", "brightness",
)  # fmt: skip
"""Features of each object."""

PLANE_FEATURES = (
    "objects", "covered", "size_spread", "size_middle", "cut_share", "filled_middle",
    "touching_middle", "score_middle", "map_edge_middle", "map_around_middle", "sure_middle",
    "separation", "undecided_on", "undecided_off", "contrast", "one_sided", "side_of_sample",
    "steepness_middle", "edge_width_middle", "map_steepness_middle", "noise", "texture_middle",
    "threshold_dice",
)  # fmt: skip
"""Features of the plane and of its objects as a whole."""


@dataclass(frozen=True)
class Expectation:
    """Properties of objects that a model states.

    Parameters
    ----------
    diameter_px : diameter of the objects that it is made for, px of the image; NaN if not stated
    scale : factor by which the image was resized for the network
    side : 1 if its own sample shows bright objects, -1 if dark ones, NaN if neither
    """

    diameter_px: float
    scale: float
    side: float


def features_of(evidence: ObjectEvidence, model: Expectation) -> tuple[Floats, Floats]:
    """Convert evidence to features that are comparable between images.

    Returns
    -------
    (n, len(OBJECT_FEATURES)), (len(PLANE_FEATURES),)
        NaN where undefined
    """
    if not len(evidence.label):
        return np.zeros((0, len(OBJECT_FEATURES))), np.full(len(PLANE_FEATURES), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        shape, of_map = _shape_features(evidence, model), _map_features(evidence)
        of_image = _image_features(evidence, model.side)
    objects, plane = (shape[i] | of_map[i] | of_image[i] for i in (0, 1))
    return (
        np.stack([objects[name] for name in OBJECT_FEATURES], -1),
        np.array([plane[name] for name in PLANE_FEATURES]),
    )


_Features = tuple[dict[str, Floats], dict[str, float]]


def _shape_features(evidence: ObjectEvidence, model: Expectation) -> _Features:
    area, elongation, filled, faces, touching, cut, score = evidence.shapes.T
    octaves = np.log2(evidence.diameters)
    middle = median(octaves)
    known = score[np.isfinite(score)]
    score_middle = median(known)
    made = octaves - np.log2(model.diameter_px)
    low, high = percentiles(np.sort(octaves), (25, 75))
    return {
        "size": octaves - middle,
        "size_to_made": made,
        "diameter": octaves + np.log2(model.scale),
        "elongation": np.minimum(elongation, 20.0),
        "filled": filled,
        # 1 for a circle, or for an axis-aligned ellipse of the same size
        "rough": faces / (8 * np.sqrt(area / np.pi)),
        "cut": cut,
        "touching": touching,
        "score": score,
        "score_beside_others": score - score_middle,
    }, {
        "objects": float(np.log1p(len(area))),
        "covered": float(evidence.inside.mean()),
        "size_spread": float(high - low),
        "size_middle": median(made),
        "cut_share": float(cut.mean()),
        "filled_middle": median(filled),
        "touching_middle": median(touching),
        "score_middle": score_middle,
    }


def _map_features(evidence: ObjectEvidence) -> _Features:
    """Return the certainty of the network, from the map that best separates objects."""
    best = _best(_steps(evidence.maps), evidence.map_points)
    mean, spread, beside, around, _, edge = evidence.maps[best].T
    points, on = evidence.map_points[best], evidence.inside
    inside = _middle(mean)
    outside = median(points[~on]) if (~on).any() else _middle(around)
    span = inside - outside or np.nan
    low, high = float(points.min()), float(points.max())
    is_share = low >= -SLACK and high <= 1 + SLACK
    share = (points - outside) / span
    unsure = (share > UNDECIDED[0]) & (share < UNDECIDED[1])
    apart = np.sqrt((points[on].var() + points[~on].var()) / 2) if on.any() and (~on).any() else 1
    of_map = {
        "map_mean": (mean - outside) / span,
        "map_edge": (edge - outside) / span,
        "map_around": (around - outside) / span,
        "map_spread": spread / abs(span),
        "map_steepness": (edge - beside) / span,
        "sure": (mean * 2 - 1) * np.sign(span) if is_share else np.full(len(mean), np.nan),
    }
    return of_map, {
        "map_edge_middle": _middle(of_map["map_edge"]),
        "map_around_middle": _middle(of_map["map_around"]),
        "map_steepness_middle": _middle(of_map["map_steepness"]),
        "sure_middle": _middle(of_map["sure"]),
        "separation": min(abs(span) / max(float(apart), 1e-9), MOST),
        "undecided_on": float(unsure[on].mean()) if on.any() else np.nan,
        "undecided_off": float(unsure[~on].sum() / max(on.sum(), 1)),
    }


def _image_features(evidence: ObjectEvidence, side: float) -> _Features:
    """Return the contrast of objects, in the channel in which they stand out most."""
    best = _best(_steps(evidence.planes), evidence.plane_points)
    mean, spread, beside, around, rough, edge = evidence.planes[best].T
    points, on = evidence.plane_points[best], evidence.inside
    steps = mean - around
    step = _middle(steps)
    sign, size = float(np.sign(step)), abs(step) or np.nan
    noise = NORMAL * median(evidence.plane_steps[best]) / 2**0.5
    ground = median(points[~on]) if (~on).any() else _middle(around)
    deviation = _deviation(points[on]) + _deviation(points[~on]) or float(points.std()) or np.nan
    of_image = {
        "step": np.clip(steps * sign / deviation, -MOST, MOST),
        "step_beside_others": np.clip(steps * sign / size, -MOST, MOST),
        "step_to_noise": np.clip(steps * sign / (noise or np.nan), -MOST, MOST),
        "texture": np.minimum(spread / size, MOST),
        "texture_around": np.minimum(rough / size, MOST),
        "steepness": np.clip((edge - beside) * sign / size, -MOST, MOST),
        # in octaves, and in diameters
        "edge_width": np.log2(size / np.maximum(abs(edge - beside), size / MOST))
        - np.log2(evidence.diameters),
        "brightness": np.clip((mean - ground) * sign / size, -MOST, MOST),
    }
    return of_image, {
        "contrast": min(size / deviation, MOST),
        "one_sided": abs(_mean(np.sign(steps))),
        "side_of_sample": side * sign,
        "steepness_middle": _middle(of_image["steepness"]),
        "edge_width_middle": _middle(of_image["edge_width"]),
        "noise": min(noise / size, MOST),
        "texture_middle": _middle(of_image["texture"]),
        "threshold_dice": _threshold_dice(points, on, sign),
    }


def _steps(channels: Floats) -> Floats:
    mean, around = (channels[..., OF_CHANNEL.index(name)] for name in ("mean", "around"))
    return mean - around


def _best(steps: Floats, points: Floats) -> int:
    """Choose the channel in which objects differ most from their surroundings.

    Parameters
    ----------
    steps : (c, n) difference of each object
    points : (c, p) values of the plane
    """
    if len(steps) == 1:
        return 0
    middles = np.array([abs(_middle(step)) for step in steps])
    return int(np.argmax(np.nan_to_num(middles / (points.std(1) + 1e-12))))


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _middle(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return median(known)


def _deviation(values: Floats) -> float:
    return NORMAL * median(np.abs(values - median(values))) if len(values) else 0.0


def _threshold_dice(points: Floats, on: BoolArray, sign: float) -> float:
    """Return the Dice score of the objects and the foreground of an Otsu (1979) threshold."""
    ordered = np.sort(points)
    count = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    apart = sums[:-1] / count - (sums[-1] - sums[:-1]) / (len(ordered) - count)
    cut = int(np.argmax(count * (len(ordered) - count) * apart**2)) if len(count) else 0
    bright = points > ordered[cut]
    objects = bright if sign > 0 else ~bright
    both = float((objects & on).sum())
    return 2 * both / max(float(objects.sum() + on.sum()), 1.0)
