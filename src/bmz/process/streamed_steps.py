"""Declared steps for an image that is read in parts: statistics first, then part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, Places
from bmz.base.axes import SPACE, Step
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.process.ops import Op, op_of
from bmz.process.ops_scaling import MOST_BINS, ScalingStep

Parts = Callable[[], Iterable[AnyArray]]
"""Returns all parts of an image on each call; every part has all axes of the image."""


class StepNotStreamed(CouldNotTell):
    """A step needs more than a few statistics of the whole image."""

    def __init__(self, step: Step) -> None:
        super().__init__(
            f"the step {step} needs the whole image at once, but the image is read in parts",
            hint="crop the image, or raise the limit with --memory",
            code="stream.step",
        )
        self.step = step


PartedReference = tuple[Parts, str]
"""A tensor that is read in parts, and the letters of its dimensions."""


def streamed_ops(
    steps: Sequence[Step],
    parts: Parts,
    axes: str,
    references: Mapping[str, PartedReference] | None = None,
) -> list[Op]:
    """Turn steps into ops that return for a part what the steps return for the whole.

    Means, deviations and percentiles are those of all parts together, exact up to rounding:
    16-bit integers are counted in one pass; other values take three (range, histogram, and the
    values in the few bins that contain a wanted rank).

    Parameters
    ----------
    steps : declared, in order
    parts : of the image as the steps receive it, without overlap
    axes : one letter per dimension of a part
    references : tensors by their id, for the steps that take a ``reference_tensor``

    Raises
    ------
    StepNotStreamed
        A step needs statistics over only some spatial axes, or of a tensor that is not kept.
    """
    ops: list[Op] = []
    for step in steps:
        before = tuple(ops)

        def seen(before: tuple[Op, ...] = before) -> Iterable[AnyArray]:
            return (applied(before, part, axes) for part in parts())

        ops.append(_known(step, (seen, axes), references or {}))
    return ops


def applied(ops: Iterable[Op], part: AnyArray, axes: str) -> AnyArray:
    """Apply ops in order, without warnings about values that are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        for op in ops:
            part = op(part, axes)
    return part


def numbers_of_steps(ops: Sequence[Op], parts: Iterable[AnyArray], axes: str) -> list[bool]:
    """Return for each op whether any value after it is finite, reading as few parts as possible.

    Parameters
    ----------
    ops : from `streamed_ops`
    parts : of the image as the first op receives it
    axes : one letter per dimension of a part
    """
    known = [False] * len(ops)
    for part in parts:
        if all(known):
            break
        values = part
        for number, op in enumerate(ops):
            values = applied([op], values, axes)
            known[number] = known[number] or bool(np.isfinite(values).any())
    return known


def _known(step: Step, own: PartedReference, references: Mapping[str, PartedReference]) -> Op:
    name = step.kwargs.get("reference_tensor")
    if name is None:
        op, reference = op_of(step, {}), own
    elif name in references:
        reference = references[name]
        # only the letters of the axes are read here
        op = op_of(step, {name: (np.empty((0,) * len(reference[1])), reference[1])})
    else:
        raise StepNotStreamed(step)
    if not isinstance(op, ScalingStep):
        return op
    return op.known(_Parted(step, *own), _Parted(step, *reference))


@dataclass(frozen=True)
class _Parted:
    """Statistics of a tensor that is read in parts, over whole planes or stacks only."""

    step: Step
    parts: Parts
    axes: str

    def mean_and_deviation(self, over: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        return mean_and_deviation_of(self.parts, self.axes, self._of_whole(over))

    def percentiles(self, over: Sequence[str], which: Sequence[float]) -> list[FloatArray]:
        return percentiles_of(self.parts, self.axes, self._of_whole(over), which)

    def _of_whole(self, over: Sequence[str]) -> Sequence[str]:
        if any(axis in self.axes and axis not in over for axis in SPACE):
            raise StepNotStreamed(self.step)
        return over


def mean_and_deviation_of(
    parts: Parts, axes: str, over: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation over all parts, as `mean_and_deviation` of the whole.

    Source of the merging: Chan, Golub and LeVeque 1983, doi 10.1080/00031305.1983.10483115.
    """
    along = tuple(i for i, axis in enumerate(axes) if axis in over)
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for part in parts():
        numbers = part.astype(np.float64)
        size = int(np.prod([part.shape[i] for i in along]))
        own = numbers.mean(axis=along, keepdims=True)
        away = own - mean if count else own
        rest = np.square(numbers - own).sum(axis=along, keepdims=True)
        squares = squares + rest + np.square(away) * (count * size / (count + size))
        mean = mean + away * (size / (count + size)) if count else own
        count += size
    return mean, np.sqrt(squares / max(count, 1))


def percentiles_of(
    parts: Parts, axes: str, over: Sequence[str], which: Sequence[float], *, lower: bool = False
) -> list[FloatArray]:
    """Return percentiles over all parts, linearly interpolated as by ``numpy.percentile``.

    Parameters
    ----------
    which : percentiles, 0 to 100
    lower : take the value below instead of interpolating (NumPy's method ``lower``)

    Returns
    -------
    list of float64
        one for each of `which`, with 1 in place of each axis of `over`
    """
    outer = [i for i, axis in enumerate(axes) if axis not in over]

    def rows() -> Iterable[AnyArray]:
        for part in parts():
            ordered = np.moveaxis(part, outer, range(len(outer)))
            yield ordered.reshape(int(np.prod([part.shape[i] for i in outer])), -1)

    low, high, count, whole = _range_of(rows())
    columns = []
    for row in range(len(low)):
        places = Places.among(count, which)
        ranks = np.union1d(places.below, places.above)
        ranked = _ranked(rows, row, (low[row], high[row]), ranks, whole=bool(whole[row]))
        below, above = (
            np.array([ranked[int(r)] for r in at]) for at in (places.below, places.above)
        )
        columns.append(below if lower else places.between(below, above))
    first = next(iter(parts()))
    shape = [n if i in outer else 1 for i, n in enumerate(first.shape)]
    return [np.array(ranked).reshape(shape) for ranked in np.array(columns).T]


def _range_of(rows: Iterable[AnyArray]) -> tuple[FloatArray, FloatArray, int, AnyArray]:
    low = high = whole = None
    count = 0
    for part in rows:
        numbers = part.astype(np.float64, copy=False)
        least, most = numbers.min(axis=1), numbers.max(axis=1)
        integral = np.array(
            [part.dtype.kind in "biu" or bool((row == np.rint(row)).all()) for row in numbers]
        )
        low = least if low is None else np.minimum(low, least)
        high = most if high is None else np.maximum(high, most)
        whole = integral if whole is None else whole & integral
        count += part.shape[1]
    if low is None or high is None or whole is None:
        raise ValueError("an image without pixels has no percentiles")
    return low, high, count, whole & (high - low < MOST_BINS)


def _ranked(
    rows: Callable[[], Iterable[AnyArray]],
    row: int,
    ends: tuple[float, float],
    ranks: AnyArray,
    *,
    whole: bool,
) -> Mapping[int, float]:
    """Return the values at some ranks of a row, rank -> value."""
    low, high = ends
    if not (np.isfinite(low) and np.isfinite(high)):
        return dict.fromkeys(map(int, ranks), float("nan"))
    if low == high:
        return dict.fromkeys(map(int, ranks), low)
    bins = int(high - low) + 1 if whole else MOST_BINS
    counts = np.zeros(bins, np.int64)
    for part in rows():
        counts += np.bincount(_bin_of(part[row], low, high, bins, whole=whole), minlength=bins)
    ends_at = np.cumsum(counts)
    bins_of_ranks = np.searchsorted(ends_at, ranks, side="right")
    if whole:
        return {int(rank): low + int(at) for rank, at in zip(ranks, bins_of_ranks, strict=True)}
    members: list[AnyArray] = []
    for part in rows():
        at = _bin_of(part[row], low, high, bins, whole=False)
        members.append(part[row][np.isin(at, bins_of_ranks)].astype(np.float64))
    ordered = np.sort(np.concatenate(members))
    at = _bin_of(ordered, low, high, bins, whole=False)
    values = {}
    for rank, bin_ in zip(ranks, bins_of_ranks, strict=True):
        first = int(np.searchsorted(at, bin_, side="left"))
        before = int(ends_at[bin_] - counts[bin_])
        values[int(rank)] = float(ordered[first + int(rank) - before])
    return values


def _bin_of(values: AnyArray, low: float, high: float, bins: int, *, whole: bool) -> AnyArray:
    shifted = values.astype(np.float64) - low
    if whole:
        return shifted.astype(np.int64)
    return np.minimum((shifted / (high - low) * bins).astype(np.int64), bins - 1)
