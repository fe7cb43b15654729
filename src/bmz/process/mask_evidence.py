"""Measures, without ground truth, of how well a label mask fits its image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import log2, nan

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray, slope
from bmz.base.values import dataclass
from bmz.process.matching import Overlap
from bmz.process.object_shapes import Runs, runs_of

IOU = 0.5
"""Minimum IoU at which two objects match."""

TIGHT = 0.8
"""Minimum IoU at which two objects are nearly identical."""

RING = 0.2
"""Width of the rings on both sides of an outline, in diameters; at least `LEAST_RING_PX`."""

LEAST_RING_PX = 2.0

NORMAL = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""

GREYS = 256
"""Number of bins of the histogram from which the threshold is computed."""

ODD_SIZE = 4
"""Largest factor between the area of an ordinary object and the median area."""

HALF = 0.5

REACH = 0.3
"""How far from an outline the steepest position is searched for, in diameters."""

BANDS = 13
"""Number of bands of distances from the outline."""

SMOOTH = 0.15
"""Standard deviation of a Gaussian that leaves one peak per object, in diameters."""

UNDECIDED = (0.25, 0.75)
"""Undecided values of a map, on a scale from 0 for background to 1 for objects."""


@dataclass(frozen=True)
class MaskOnImage:
    """A label mask with the image and the output of the network that it was made from.

    Parameters
    ----------
    labels : ((z,) y, x) 1 to n without gaps, 0 background
    planes : (c, (z,) y, x) the channels of the image that the network was applied to
    maps : (k, (z,) y, x) the output of the network, on its own grid
    """

    labels: AnyArray
    planes: AnyArray
    maps: AnyArray

    @cached_property
    def runs(self) -> Runs:
        """The objects as runs of pixels along rows."""
        return runs_of(self.labels)

    @cached_property
    def inside(self) -> BoolArray:
        """Mask of all objects."""
        return self.labels > 0

    @cached_property
    def diameter(self) -> float:
        """Median equivalent diameter of the objects, px; in a stack that of balls."""
        if not self.runs.count:
            return 0.0
        sizes = self.runs.sizes.astype(np.float64)
        if self.labels.ndim == 2:  # noqa: PLR2004
            return float(np.median(2 * np.sqrt(sizes / np.pi)))
        return float(np.median(2 * np.cbrt(sizes * 3 / (4 * np.pi))))

    @cached_property
    def outline(self) -> BoolArray:
        """Pixels of objects that are adjacent, within a plane, to another object or background."""
        edge = np.zeros(self.labels.shape, np.bool_)
        for axis in (-2, -1):
            apart = np.diff(self.labels, axis=axis) != 0
            first = [slice(None)] * self.labels.ndim
            second = list(first)
            first[axis], second[axis] = slice(None, -1), slice(1, None)
            edge[tuple(first)] |= apart
            edge[tuple(second)] |= apart
        return edge & self.inside


MOST_MAPS = 4
"""Of more maps than this, only the first and the last ones are used."""


def telling_maps(maps: AnyArray) -> AnyArray:
    """Return the maps to use, (k, (z,) y, x): all, or the first two and the last two of many."""
    if len(maps) <= MOST_MAPS:
        return maps
    return np.concatenate([maps[: MOST_MAPS // 2], maps[-MOST_MAPS // 2 :]])


SAMPLE = "sample_"

OF_SAMPLE = ("separation", "undecided", "undecided_object", "edge_within")
"""Measures that are compared with the model's own sample, since networks differ in confidence."""


def evidence_of(
    mask: MaskOnImage, copies: Mapping[str, AnyArray], case: Mapping[str, float]
) -> dict[str, float]:
    """Return all evidence for and against a label mask.

    Parameters
    ----------
    copies : change -> labels of a changed copy of the image, on its grid; empty without copies
    case : values from the check of the image, see `bmz.engine.trial.case_values`; and, if known,
        the measures `OF_SAMPLE` of the model's own sample, prefixed by `SAMPLE`

    Returns
    -------
    dict
        name -> value, NaN if it is unknown
    """
    of_mask, of_case = mask_evidence(mask), dict(case)
    of_sample = {name: of_case.pop(SAMPLE + name, nan) for name in OF_SAMPLE}
    seen, made, side = (of_case.pop(name) for name in ("seen_px", "made_px", "side_made"))
    return {
        **of_mask,
        **copy_evidence(mask.labels, copies),
        **of_case,
        **{f"above_{SAMPLE}{name}": of_mask[name] - of_sample[name] for name in OF_SAMPLE},
        "size_to_seen": _octaves(mask.diameter, seen),
        "size_to_made": _octaves(mask.diameter, made),
        "seen_to_made": _octaves(seen, made),
        "side_of_sample": of_mask["side"] * side,
    }


def _octaves(one: float, other: float) -> float:
    return log2(one / other) if one > 0 and other > 0 else nan


def mask_evidence(mask: MaskOnImage) -> dict[str, float]:
    """Measure how well a label mask fits its image and its maps.

    Returns
    -------
    dict
        name -> value; NaN if it is undefined, for example for a mask without objects
    """
    values = {"objects": float(np.log1p(mask.runs.count)), "covered": float(mask.inside.mean())}
    return {**values, **_shapes(mask), **_contrasts(mask), **_map_values(mask)}


SHAPES = ("size_spread", "tiny", "huge", "cut", "filled", "least_filled", "elongated")


def _shapes(mask: MaskOnImage) -> dict[str, float]:
    runs = mask.runs
    if not runs.count:
        return dict.fromkeys(SHAPES, np.nan)
    sizes = runs.sizes.astype(np.float64)
    middle = np.median(sizes)
    low, high = np.percentile(np.log2(sizes), (25, 75))
    cut = np.zeros(runs.count, np.bool_)
    for least, most, side in zip(*runs.boxes(), mask.labels.shape, strict=True):
        cut |= (least == 0) | (most == side)
    filled, elongation = _ellipses(mask)
    values = (
        high - low,
        (sizes < middle / ODD_SIZE).mean(),
        (sizes > middle * ODD_SIZE).mean(),
        cut.mean(),
        np.median(filled),
        np.percentile(filled, 10),
        np.median(elongation),
    )
    return dict(zip(SHAPES, map(float, values), strict=True))


def _ellipses(mask: MaskOnImage) -> tuple[FloatArray, FloatArray]:
    """Return the share of its ellipse that each object fills, and the aspect ratio of each."""
    if mask.labels.ndim > 2:  # noqa: PLR2004
        return np.ones(1), np.ones(1)
    yy, xx, yx = mask.runs.second_moments()
    yy, xx = yy + 1 / 12, xx + 1 / 12  # the second moment of a square pixel
    product = np.maximum(yy * xx - yx * yx, 1e-9)
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    elongation = np.sqrt((middle + apart) / np.maximum(middle - apart, 1e-9))
    return mask.runs.sizes / (4 * np.pi * np.sqrt(product)), np.minimum(elongation, 20.0)


CONTRASTS = (
    "contrast", "side", "faint", "one_sided", "edge", "edge_within", "edge_width", "sharpness",
    "sharpness_coarse", "noise", "threshold_dice", "left_out", "taken_in", "edge_shift",
    "edge_peak", "single_peak", "missed_peaks", "peaks_each",
)  # fmt: skip


def _contrasts(mask: MaskOnImage) -> dict[str, float]:
    """Measure how objects stand out, in the channel with the highest contrast."""
    if not mask.runs.count or mask.inside.all():
        return dict.fromkeys(CONTRASTS, np.nan)
    rings = _Rings.of(mask)
    channels = [_channel(mask, rings, plane.astype(np.float32)) for plane in mask.planes]
    return max(channels, key=lambda values: values["contrast"])


@dataclass(frozen=True)
class _Rings:
    """The pixels on both sides of the outlines.

    Parameters
    ----------
    inner, outer : ((z,) y, x) masks of the pixels inside and outside
    nearest : ((z,) y, x) label of the nearest object
    distance : ((z,) y, x) distance from the nearest outline, px; negative inside objects
    """

    inner: BoolArray
    outer: BoolArray
    nearest: AnyArray
    distance: FloatArray

    @classmethod
    def of(cls, mask: MaskOnImage) -> _Rings:
        width = max(LEAST_RING_PX, RING * mask.diameter)
        step = (1e6, 1.0, 1.0)[-mask.labels.ndim :]  # rings lie within a plane
        away, at = ndimage.distance_transform_edt(~mask.inside, sampling=step, return_indices=True)
        deep = ndimage.distance_transform_edt(~mask.outline & mask.inside, sampling=step)
        inner = mask.inside & (deep < width)
        outer = (away > 0) & (away <= width + 1)
        distance = np.where(mask.inside, -deep, away)
        return cls(inner, outer, mask.labels[tuple(at)], distance)


def _channel(mask: MaskOnImage, rings: _Rings, plane: FloatArray) -> dict[str, float]:
    plane = np.nan_to_num(plane, posinf=0.0, neginf=0.0)
    steps = _steps(mask, rings, plane)
    if not len(steps):
        return dict.fromkeys(CONTRASTS, np.nan) | {"contrast": 0.0}
    step = float(np.median(steps))
    spread = _spread(plane[rings.outer]) + _spread(plane[mask.inside]) or float(plane.std()) or 1.0
    size = max(abs(step), 1e-6 * spread)
    fine, coarse, coarser = (_steepness(plane, sigma) for sigma in (1.0, 2.0, 4.0))
    at_edge, at_coarse, at_coarser = (
        max(float(one[mask.outline].mean()), 1e-12) for one in (fine, coarse, coarser)
    )
    core = mask.inside & ~rings.inner
    rough = np.abs(np.diff(plane, 2, axis=-1)) / 6**0.5  # empty if the plane is narrower than 3 px
    return {
        "contrast": min(size / spread, 100.0),
        "side": float(np.sign(step)),
        "faint": float((steps * np.sign(step) < spread / 2).mean()),
        "one_sided": float(abs(np.sign(steps).mean())),
        "edge": min(at_edge / max(float(fine.mean()), 1e-12), 100.0),
        "edge_within": float(fine[core].mean()) / at_edge if core.any() else 1.0,
        "edge_width": min(size / (at_edge * mask.diameter), 10.0),
        "sharpness": at_edge / at_coarse,
        "sharpness_coarse": at_coarse / at_coarser,
        "noise": min(NORMAL * float(np.median(rough)) / size, 10.0) if rough.size else 0.0,
        "threshold_dice": _threshold_dice(mask, plane, sign=step),
        **_sides(mask, rings, plane),
        **_edge_place(mask, rings, fine),
        **_peaks(mask, plane * np.float32(np.sign(step) or 1)),
    }


def _sides(mask: MaskOnImage, rings: _Rings, plane: FloatArray) -> dict[str, float]:
    """Return how much of the background looks like objects, and how much of the objects does not.

    Both are shares of the area of the objects; the limit is half-way between the medians.
    """
    inside, outside = mask.inside, ~mask.inside & ~rings.outer
    if not outside.any():
        return {"left_out": 0.0, "taken_in": nan}
    smooth = ndimage.gaussian_filter(plane, (0, 1, 1)[-plane.ndim :])
    high, low = float(np.median(smooth[inside])), float(np.median(smooth[outside]))
    share = (smooth - low) / (high - low or 1.0)
    area = float(inside.sum())
    return {
        "left_out": min(float((share[outside] > HALF).sum()) / area, 10.0),
        "taken_in": float((share[inside] < HALF).sum()) / area,
    }


def _edge_place(mask: MaskOnImage, rings: _Rings, steepness: FloatArray) -> dict[str, float]:
    """Return where the image is steepest near the outlines, and how steep it is on them.

    Returns
    -------
    dict
        `edge_shift`, distance of the steepest position in diameters, positive outside;
        `edge_peak`, steepness on the outline as a share of the greatest one
    """
    width = max(LEAST_RING_PX, REACH * mask.diameter)
    near = np.abs(rings.distance) <= width
    ends = np.linspace(-width, width, BANDS + 1)
    band = np.clip(np.digitize(rings.distance[near], ends) - 1, 0, BANDS - 1)
    counts = np.bincount(band, minlength=BANDS)
    sums = np.bincount(band, steepness[near], minlength=BANDS)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 0.0)
    top = int(np.argmax(means))
    middle = (ends[top] + ends[top + 1]) / 2
    return {
        "edge_shift": middle / mask.diameter,
        "edge_peak": float(means[BANDS // 2]) / max(float(means.max()), 1e-12),
    }


def _peaks(mask: MaskOnImage, plane: FloatArray) -> dict[str, float]:
    """Return the share of objects with one peak, the share of peaks outside, and peaks per object.

    The image is smoothed to remove all structures that are smaller than an object.
    """
    sigma = max(1.0, SMOOTH * mask.diameter)
    smooth = ndimage.gaussian_filter(plane, (0, sigma, sigma)[-plane.ndim :])
    reach = 2 * int(np.ceil(sigma)) + 1
    top = ndimage.maximum_filter(smooth, (1, reach, reach)[-plane.ndim :])
    inside = mask.inside
    limit = (float(np.median(smooth[inside])) + float(np.median(smooth[~inside]))) / 2
    at = (smooth == top) & (smooth > limit)
    counts = np.bincount(mask.labels[at & inside], minlength=mask.runs.count + 1)[1:]
    missed = float((at & ~inside).sum())
    return {
        "single_peak": float((counts == 1).mean()),
        "missed_peaks": missed / max(missed + float(counts.sum()), 1.0),
        "peaks_each": min(float(counts.mean()), 10.0),
    }


def _steps(mask: MaskOnImage, rings: _Rings, plane: FloatArray) -> FloatArray:
    """Return how much brighter each object is than its ring; objects without a ring are omitted."""
    numbers = np.arange(1, mask.runs.count + 1)
    ring = np.where(rings.outer, rings.nearest, 0)
    around = np.bincount(ring.reshape(-1), minlength=len(numbers) + 1)[1:] > 0
    within, beside = (
        np.asarray(ndimage.mean(plane, labels, numbers[around])) for labels in (mask.labels, ring)
    )
    steps: FloatArray = within - beside
    return steps


def _spread(values: FloatArray) -> float:
    return NORMAL * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def _steepness(plane: FloatArray, sigma: float) -> FloatArray:
    smooth = ndimage.gaussian_filter(plane, (0, sigma, sigma)[-plane.ndim :])
    steepness: FloatArray = np.hypot(slope(smooth, -2), slope(smooth, -1))
    return steepness


def _threshold_dice(mask: MaskOnImage, plane: FloatArray, sign: float) -> float:
    """Return the Dice score of the mask and a threshold by the method of Otsu (1979)."""
    smooth = ndimage.gaussian_filter(plane, (0, 1, 1)[-plane.ndim :])
    low, high = (float(x) for x in np.percentile(smooth, (0.5, 99.5)))
    counts, ends = np.histogram(np.clip(smooth, low, high), GREYS)
    middles = (ends[:-1] + ends[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    threshold = ends[1 + int(np.argmax(np.nan_to_num(apart)))]
    bright = smooth > threshold
    objects = bright if sign > 0 else ~bright
    both = float((objects & mask.inside).sum())
    return 2 * both / max(float(objects.sum() + mask.inside.sum()), 1.0)


MAPS = ("separation", "undecided", "undecided_object")


def _map_values(mask: MaskOnImage) -> dict[str, float]:
    """Return how well the best map separates objects from background, and how much is undecided."""
    on = _on_grid(mask.inside, mask.maps.shape[1:])
    if not on.any() or on.all():
        return dict.fromkeys(MAPS, np.nan)
    separations = [_separation(one.astype(np.float32), on) for one in mask.maps]
    best = int(np.argmax(separations))
    values = mask.maps[best].astype(np.float32)
    inside, outside = float(np.median(values[on])), float(np.median(values[~on]))
    share = (values - outside) / (inside - outside or 1.0)
    unsure = (share > UNDECIDED[0]) & (share < UNDECIDED[1])
    return {
        "separation": separations[best],
        "undecided": float(unsure.sum() / on.sum()),
        "undecided_object": float(unsure[on].mean()),
    }


def _on_grid(array: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    """Resample an array to another grid over the same field of view, by nearest neighbour."""
    if array.shape == shape:
        return array
    places = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape, array.shape, strict=True)
    ]
    return array[np.ix_(*places)]


def _separation(values: FloatArray, on: BoolArray) -> float:
    """Return the difference between the means in standard deviations, at most 100."""
    spread = float(np.sqrt((values[on].var() + values[~on].var()) / 2))
    apart = abs(float(values[on].mean()) - float(values[~on].mean()))
    return min(apart / max(spread, 1e-9), 100.0)


def copy_evidence(labels: AnyArray, copies: Mapping[str, AnyArray]) -> dict[str, float]:
    """Compare a label mask with those of changed copies of its image.

    Returns
    -------
    dict
        empty if there is no object or no copy; otherwise

        - ``agrees_<change>``: F1 at `IOU` with one copy
        - `agrees`, `agrees_least`: mean and minimum of these
        - `agrees_iou`: mean IoU of matched objects, 0 if there are none
        - `agrees_tight`: mean F1 at `TIGHT`
        - `stays_always`, `stays_never`: share of objects that match in all copies, and in none
        - `area_change`, `count_change`: mean absolute log2 ratio of the area and of the number
          of objects
    """
    overlaps = {name: Overlap.of(labels, copy) for name, copy in copies.items()}
    scores = {name: overlap.matching(IOU).f1 for name, overlap in overlaps.items()}
    if not scores or not labels.any():
        return {}
    ious = [overlap.iou[overlap.matched(IOU)] for overlap in overlaps.values()]
    together = np.concatenate(ious)
    count = len(np.unique(labels[labels > 0]))
    stays = np.zeros(count)
    for overlap in overlaps.values():
        stays[np.unique(overlap.predicted[overlap.matched(IOU)])] += 1
    areas = [np.log2(((copy > 0).sum() + 1) / ((labels > 0).sum() + 1)) for copy in copies.values()]
    changes = [abs(np.log2((copy.max(initial=0) + 1) / (count + 1))) for copy in copies.values()]
    return {
        **{f"agrees_{name}": score for name, score in scores.items()},
        "agrees": float(np.mean([*scores.values()])),
        "agrees_least": min(scores.values()),
        "agrees_iou": float(together.mean()) if len(together) else 0.0,
        "agrees_tight": float(np.mean([o.matching(TIGHT).f1 for o in overlaps.values()])),
        "stays_always": float((stays == len(overlaps)).mean()),
        "stays_never": float((stays == 0).mean()),
        "area_change": float(np.mean(np.abs(areas))),
        "count_change": float(np.mean(changes)),
    }
