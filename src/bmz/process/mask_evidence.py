"""Numbers that tell, without ground truth, how well a label mask goes with its image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.values import dataclass
from bmz.process.matching import Overlap
from bmz.process.measure import Runs, runs_of

IOU = 0.5
"""From which two objects are the same."""

RING = 0.2
"""Width of the rings on both sides of an outline, in diameters; at least `LEAST_RING_PX`."""

LEAST_RING_PX = 2.0

NORMAL = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""

GREYS = 256
"""Grey levels that a threshold may lie between."""

ODD_SIZE = 4
"""How far the area of an object is from the middle one at the most, not to be odd."""

UNDECIDED = (0.25, 0.75)
"""Share of the way from the background's value of a map to the objects', that is neither's."""

SOLID = 0.9
"""Share of the ellipse of its moments that an even object fills."""


@dataclass(frozen=True)
class MaskOnImage:
    """A label mask and what it was made from.

    Parameters
    ----------
    labels : ((z,) y, x) 1 to n without gaps, 0 background
    planes : (c, (z,) y, x) the channels of the image that the network was given
    maps : (k, (z,) y, x) what the network gave, on a grid of its own
    """

    labels: AnyArray
    planes: AnyArray
    maps: AnyArray

    @cached_property
    def runs(self) -> Runs:
        """The objects, by rows."""
        return runs_of(self.labels)

    @cached_property
    def inside(self) -> BoolArray:
        """Where objects are."""
        return self.labels > 0

    @cached_property
    def diameter(self) -> float:
        """The median of their equivalent diameters, px; in a stack those of balls."""
        if not self.runs.count:
            return 0.0
        sizes = self.runs.sizes.astype(np.float64)
        if self.labels.ndim == 2:  # noqa: PLR2004
            return float(np.median(2 * np.sqrt(sizes / np.pi)))
        return float(np.median(2 * np.cbrt(sizes * 3 / (4 * np.pi))))

    @cached_property
    def outline(self) -> BoolArray:
        """The pixels of objects beside other objects or background, within a plane."""
        edge = np.zeros(self.labels.shape, np.bool_)
        for axis in (-2, -1):
            apart = np.diff(self.labels, axis=axis) != 0
            first = [slice(None)] * self.labels.ndim
            second = list(first)
            first[axis], second[axis] = slice(None, -1), slice(1, None)
            edge[tuple(first)] |= apart
            edge[tuple(second)] |= apart
        return edge & self.inside


def mask_evidence(mask: MaskOnImage) -> dict[str, float]:
    """Measure a label mask against its image and its map.

    Returns
    -------
    dict
        name -> value; NaN for what cannot be told, as of a mask without objects
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
    """Give the share of its ellipse that each object fills, and the ratio of its axes."""
    if mask.labels.ndim > 2:  # noqa: PLR2004
        return np.ones(1), np.ones(1)
    yy, xx, yx = mask.runs.second_moments()
    yy, xx = yy + 1 / 12, xx + 1 / 12  # of a pixel, which is a square
    product = np.maximum(yy * xx - yx * yx, 1e-9)
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    elongation = np.sqrt((middle + apart) / np.maximum(middle - apart, 1e-9))
    return mask.runs.sizes / (4 * np.pi * np.sqrt(product)), np.minimum(elongation, 20.0)


CONTRASTS = (
    "contrast", "side", "faint", "one_sided", "edge", "edge_within", "edge_width", "sharpness",
    "sharpness_coarse", "noise", "threshold_dice",
)  # fmt: skip


def _contrasts(mask: MaskOnImage) -> dict[str, float]:
    """Tell how objects stand out, in the channel in which they do so most."""
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
    inner, outer : ((z,) y, x) where they are
    nearest : ((z,) y, x) the label of the nearest object
    """

    inner: BoolArray
    outer: BoolArray
    nearest: AnyArray

    @classmethod
    def of(cls, mask: MaskOnImage) -> _Rings:
        width = max(LEAST_RING_PX, RING * mask.diameter)
        step = (1e6, 1.0, 1.0)[-mask.labels.ndim :]  # rings lie within a plane
        away, at = ndimage.distance_transform_edt(~mask.inside, sampling=step, return_indices=True)
        deep = ndimage.distance_transform_edt(~mask.outline & mask.inside, sampling=step)
        inner = mask.inside & (deep < width)
        outer = (away > 0) & (away <= width + 1)
        return cls(inner, outer, mask.labels[tuple(at)])


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
    rough = np.abs(np.diff(plane, 2, axis=-1)) / 6**0.5
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
        "noise": min(NORMAL * float(np.median(rough)) / size, 10.0),
        "threshold_dice": _threshold_dice(mask, plane, sign=step),
    }


def _steps(mask: MaskOnImage, rings: _Rings, plane: FloatArray) -> FloatArray:
    """Give by how much each object is brighter than what is around it, where anything is."""
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
    y, x = (np.gradient(smooth, axis=axis) for axis in (-2, -1))
    steepness: FloatArray = np.hypot(y, x)
    return steepness


def _threshold_dice(mask: MaskOnImage, plane: FloatArray, sign: float) -> float:
    """Compare the objects with what the threshold of Otsu (1979) tells from the background."""
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
    """Tell how far the best map of the network tells objects from background."""
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
    """Give the nearest pixels of an array on another grid over the same field."""
    if array.shape == shape:
        return array
    places = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape, array.shape, strict=True)
    ]
    return array[np.ix_(*places)]


def _separation(values: FloatArray, on: BoolArray) -> float:
    """Give the distance of the means in standard deviations, up to 100."""
    spread = float(np.sqrt((values[on].var() + values[~on].var()) / 2))
    apart = abs(float(values[on].mean()) - float(values[~on].mean()))
    return min(apart / max(spread, 1e-9), 100.0)


def copy_evidence(labels: AnyArray, copies: Mapping[str, AnyArray]) -> dict[str, float]:
    """Compare a label mask with those of changed copies of its image.

    Returns
    -------
    dict
        empty where there is no object; else F1 at `IOU` by change, and over all copies: the mean,
        the least, the mean IoU of objects that have a partner, and the change of their number
        (log2)
    """
    overlaps = {name: Overlap.of(labels, copy) for name, copy in copies.items()}
    scores = {name: overlap.matching(IOU).f1 for name, overlap in overlaps.items()}
    if not scores or not labels.any():
        return {}
    ious = [overlap.iou[overlap.matched(IOU)] for overlap in overlaps.values()]
    together = np.concatenate(ious)
    count = len(np.unique(labels)) - 1
    changes = [abs(np.log2((copy.max(initial=0) + 1) / (count + 1))) for copy in copies.values()]
    return {
        **{f"agrees_{name}": score for name, score in scores.items()},
        "agrees": float(np.mean([*scores.values()])),
        "agrees_least": min(scores.values()),
        "agrees_iou": float(together.mean()) if len(together) else 0.0,
        "count_change": float(np.mean(changes)),
    }
