"""Measure the receptive field of a network, and how tiling changes its outputs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil, floor, lcm

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.plan.tiling import AxisRule, AxisTiling, OutputRule, Tiling, largest_stride, plan_tiles
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor, cut
from bmz.predict.tiles import predict_tiled


def spatial_sizes(tensors: Sequence[Tensor], rules: Sequence[AxisRule]) -> dict[str, int]:
    """Return the size of each spatial axis, px, in the first tensor that has it."""
    return {
        rule.axis: next(a.shape[axes.index(rule.axis)] for a, axes in tensors if rule.axis in axes)
        for rule in rules
    }


def enlarged(tensors: Sequence[Tensor], sizes: Mapping[str, int]) -> list[Tensor]:
    """Take the first image of each tensor, and mirror-pad or crop it at its end to `sizes`.

    Parameters
    ----------
    tensors : inputs of a network, after the declared preprocessing
    sizes : new size of each spatial axis, px
    """
    parts = {"b": (0, 1)} | {axis: (0, size) for axis, size in sizes.items()}
    return [_cut_to(tensor, parts) for tensor in tensors]


def _cut_to(tensor: Tensor, parts: Mapping[str, tuple[int, int]]) -> Tensor:
    """Cut the part (start, size) along each axis that the tensor has, mirrored beyond its end."""
    array, axes = tensor
    for axis, (start, size) in parts.items():
        if axis in axes:
            array = cut(array, axes.index(axis), start, size, "reflect")
    return Tensor(array, axes)


def legal_size(rule: AxisRule, least: int) -> int:
    """Return the size of the smallest image of at least `least` px that needs no padding.

    For a network of one fixed size, it is the image that fills the network.
    """
    if not rule.step:
        return rule.least - 2 * rule.lost
    sizes = rule.legal_sizes(least + 2 * rule.lost + lcm(rule.step, rule.grid))
    return sizes[bisect_left(sizes, least + 2 * rule.lost)] - 2 * rule.lost


SHARE = 1e-3
"""Changes smaller than this fraction of the output's range are ignored."""

_NOISE = 1e-6  # fraction of the range: a change that the order of summation may cause
_WIDE = 256  # px: smallest image for a 2-D network that takes any size
_SHIFTS = (0, 5, 8)  # px: with pooling, the reach of a pixel depends on its position

Finish = Callable[[list[AnyArray]], list[AnyArray]]
"""Processing applied to the outputs of the network before they are compared."""


@dataclass(frozen=True)
class Reach:
    """How far from a change of the input the output of a network changes, px of the input.

    Parameters
    ----------
    pixel_px : distance if one pixel in the middle changes from dark to bright, or vice versa
    edge_px : distance if everything beyond an edge through the middle changes
    seen_px : largest distance that could be measured
    sees_whole : whether the output also changed at the far border, however little
    """

    pixel_px: int
    edge_px: int
    seen_px: int
    sees_whole: bool


def measured_reach(
    backend: Backend,
    tensors: Sequence[Tensor],
    rules: Sequence[AxisRule],
    outputs: Sequence[OutputRule],
    finish: Finish = list,
) -> Reach:
    """Measure the receptive field of a network on its own test input.

    Changes above the fraction `SHARE` of the output's range count.

    Parameters
    ----------
    tensors : inputs of the network, after the declared preprocessing
    rules, outputs : rules of the axes and the outputs, as for tiling an image
    finish : processing of the outputs, such as the declared postprocessing
    """
    image = enlarged(tensors, _sizes(tensors, rules))
    sizes = spatial_sizes(image, rules)
    look = _Look(backend, image, outputs, finish)
    pixels = [look.moved(_with_pixel(image, sizes, shift)) for shift in _SHIFTS]
    places = [(m, shift, axis) for m, shift in zip(pixels, _SHIFTS, strict=True) for axis in sizes]
    near = max((m.farthest(a, sizes[a] // 2 + shift, SHARE) for m, shift, a in places), default=0)
    edges = [(axis, size // 2, look.moved(part)) for axis, size in sizes.items()
             for part in _with_halves(image, axis, size // 2)]  # fmt: skip
    changed = [(m, axis, at, bool(number % 2)) for number, (axis, at, m) in enumerate(edges)]
    return Reach(
        pixel_px=near,
        edge_px=max((m.beyond(axis, at, SHARE, up=up) for m, axis, at, up in changed), default=0),
        seen_px=min((size - size // 2 for size in sizes.values()), default=0),
        sees_whole=any(
            m.beyond(axis, at, _NOISE, up=up) >= at - max(1, at // 10)
            for m, axis, at, up in changed
        ),
    )


@dataclass(frozen=True)
class _Movement:
    """The change of each output, as a fraction of its range."""

    shares: list[AnyArray]
    outputs: Sequence[OutputRule]

    def farthest(self, axis: str, at: int, share: float) -> int:
        """Return the largest distance, px, between `at` and a change of more than `share`."""
        return max((int(np.abs(p - at).max()) for p in self._places(axis, share)), default=0)

    def beyond(self, axis: str, at: int, share: float, *, up: bool) -> int:
        """Return how far, px, changes reach into the unchanged half above or below `at`."""
        distances = [(p - at + 1 if up else at - p) for p in self._places(axis, share)]
        return max((int(distance.max()) for distance in distances), default=0)

    def _places(self, axis: str, share: float) -> Iterator[AnyArray]:
        for moved, rule in zip(self.shares, self.outputs, strict=True):
            if axis not in rule.axes:
                continue
            others = tuple(i for i, letter in enumerate(rule.axes) if letter != axis)
            places = np.flatnonzero((moved > share).any(axis=others))
            if places.size:
                yield np.asarray(places * float(Fraction(rule.spacing.get(axis, 1)))
                                 + rule.lost.get(axis, 0))  # fmt: skip


class _Look:
    """The network's outputs for the unchanged image, with which other outputs are compared."""

    def __init__(
        self,
        backend: Backend,
        image: Sequence[Tensor],
        outputs: Sequence[OutputRule],
        finish: Finish,
    ) -> None:
        self._backend, self._outputs, self._finish = backend, outputs, finish
        self._base = self._run(image)

    def moved(self, image: Sequence[Tensor]) -> _Movement:
        pairs = zip(self._run(image), self._base, strict=True)
        shares = [np.abs(output - base) / (float(np.ptp(base)) or 1.0) for output, base in pairs]
        return _Movement(shares, self._outputs)

    def _run(self, image: Sequence[Tensor]) -> list[AnyArray]:
        outputs = self._finish(self._backend.run([tensor.array for tensor in image]))
        return [array.astype(np.float64) for array in outputs]


def _sizes(tensors: Sequence[Tensor], rules: Sequence[AxisRule]) -> dict[str, int]:
    had = spatial_sizes(tensors, rules)
    flat = all(rule.axis != "z" for rule in rules)
    return {
        rule.axis: legal_size(rule, max(had[rule.axis], _WIDE) - 2 * rule.lost) + 2 * rule.lost
        if rule.step and flat
        else had[rule.axis]
        for rule in rules
    }


def _with_pixel(image: Sequence[Tensor], sizes: dict[str, int], shift: int) -> list[Tensor]:
    """Change the pixel `shift` px after the middle in every input with spatial axes."""
    result = []
    for array, axes in image:
        at = tuple(min(sizes[a] // 2 + shift, sizes[a] - 1) if a in sizes else slice(None)
                   for a in axes)  # fmt: skip
        changed = array.copy()
        if any(axis in sizes for axis in axes):
            low, high = array.min(), array.max()
            changed[at] = np.where(array[at] > (low / 2 + high / 2), low, high)
        result.append(Tensor(changed, axes))
    return result


def _with_halves(image: Sequence[Tensor], axis: str, at: int) -> Iterator[list[Tensor]]:
    """Yield the image with the pixels from `at` on inverted, then with those before `at`."""
    for half in (slice(at, None), slice(0, at)):
        result = []
        for array, axes in image:
            changed = array.copy()
            if axis in axes:
                part = (slice(None),) * axes.index(axis) + (half,)
                changed[part] = array.max() - (array[part] - array.min())
            result.append(Tensor(changed, axes))
        yield result


_ALIGNMENTS = (16, 8, 4, 2, 1)


class NothingToCompare(CouldNotTell):
    """With this halo, no pixel of the image is far enough from the border to be compared."""

    def __init__(self, axis: str, size: int, margin: int) -> None:
        super().__init__(
            f"axis {axis}: {size} px are run at once, but none of them is {margin} px or more "
            "from both borders",
            hint="the declared halo is too wide for the size; tell the model's authors",
            code="size.halo",
        )


@dataclass(frozen=True)
class TwoWays:
    """The outputs of a network for one image, computed in two ways.

    Parameters
    ----------
    tiling : tiling of the image
    tiled, whole : one array per output, cropped to the part away from the border
    enlarged_to : size of the image along each axis if the test input was mirrored, else empty
    """

    tiling: Tiling
    tiled: list[AnyArray]
    whole: list[AnyArray]
    enlarged_to: Mapping[str, int]


def run_two_ways(
    backend: Backend,
    tensors: Sequence[Tensor],
    rules: Sequence[AxisRule],
    outputs: Sequence[OutputRule],
) -> TwoWays:
    """Run a network on two or more tiles along each axis, and on one piece.

    A test input that is too small for two tiles is extended by mirroring; a larger one is
    cropped. For a network of one fixed size, the piece cannot be larger than a tile: it covers
    the middle seam, so that the seam is far from its border.

    Parameters
    ----------
    tensors : inputs of the network, after the declared preprocessing
    rules, outputs : rules of the axes and the outputs, as for tiling, with the halo to be tested

    Raises
    ------
    NothingToCompare, HaloTooWide, NotTileable
        Tiling is not possible, or nothing remains to be compared.
    """
    had = spatial_sizes(tensors, rules)
    sides = {rule.axis: _side(rule, had[rule.axis]) for rule in rules}
    sizes = {rule.axis: _size(rule, sides[rule.axis]) for rule in rules}
    image = enlarged(tensors, sizes)
    tiling = plan_tiles(sizes, rules, side=sides)
    tiled = predict_tiled(backend, image, tiling, outputs)
    pieces = {a.axis: _piece(rule, a) for rule, a in zip(rules, tiling.axes, strict=True)}
    whole = _in_one_piece(backend, image, pieces, rules, outputs)
    inner = {rule.axis: _inner(rule, pieces[rule.axis]) for rule in rules}
    starts = {axis: start for axis, (start, _) in pieces.items()}
    return TwoWays(
        tiling,
        [_part(array, rule, inner, {}) for array, rule in zip(tiled, outputs, strict=True)],
        [_part(array, rule, inner, starts) for array, rule in zip(whole, outputs, strict=True)],
        sizes if any(size > had[axis] for axis, size in sizes.items()) else {},
    )


def _side(rule: AxisRule, had: int) -> int:
    """Choose the size of a tile, wider than its halo, two of which cover the test input."""
    if not rule.step:
        return rule.least
    margin, align = rule.halo + rule.lost, lcm(rule.step, rule.grid)
    least = rule.legal_sizes(0)[0]
    half = (had + 2 * rule.lost) // 2 + margin
    steps = max(0, ceil((2 * margin + align - least) / align), (half - least) // align)
    return least + steps * align


def _size(rule: AxisRule, side: int) -> int:
    """Return the size of the image that two tiles cover with the minimum overlap for the halo.

    A wider overlap would hide a halo that is too small.
    """
    stride, _ = largest_stride(rule, side)
    return side + max(stride, 1) - 2 * rule.lost


def _piece(rule: AxisRule, along: AxisTiling) -> tuple[int, int]:
    """Return start and size of the part that is run in one piece: all, or around a seam."""
    if rule.step:
        return 0, along.image
    size = rule.least - 2 * rule.lost
    # a network that pools is equivariant only to shifts by its step: keep the tiles' alignment
    steps = [lcm(step, rule.grid) for step in _ALIGNMENTS]
    starts = [start + rule.lost for start in along.starts]
    step = next((s for s in steps if all(start % s == 0 for start in starts)), rule.grid)
    seam = along.cuts[len(along.cuts) // 2]
    start = max(0, (seam - size // 2) // step * step)
    return min(start, (along.image - size) // step * step), size


def _in_one_piece(
    backend: Backend,
    image: Sequence[Tensor],
    pieces: Mapping[str, tuple[int, int]],
    rules: Sequence[AxisRule],
    outputs: Sequence[OutputRule],
) -> list[AnyArray]:
    parts = [_cut_to(tensor, pieces) for tensor in image]
    sizes = {axis: size for axis, (_, size) in pieces.items()}
    sides = {rule.axis: sizes[rule.axis] + 2 * rule.lost for rule in rules}
    return predict_tiled(backend, parts, plan_tiles(sizes, rules, side=sides), outputs)


def _inner(rule: AxisRule, piece: tuple[int, int]) -> tuple[int, int]:
    start, size = piece
    margin = rule.halo + rule.lost
    if size <= 2 * margin:
        raise NothingToCompare(rule.axis, size, margin)
    return start + margin, start + size - margin


def _part(
    array: AnyArray,
    rule: OutputRule,
    inner: Mapping[str, tuple[int, int]],
    starts: Mapping[str, int],
) -> AnyArray:
    """Cut the part within `inner`, px of the image, from an output that begins at `starts`."""
    for axis, (low, high) in inner.items():
        if axis in rule.axes:
            spacing = Fraction(rule.spacing.get(axis, 1))
            first = int(starts.get(axis, 0) / spacing)
            start, stop = ceil(low / spacing) - first, floor(high / spacing) - first
            array = array[(slice(None),) * rule.axes.index(axis) + (slice(start, stop),)]
    return array
