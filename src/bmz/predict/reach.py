"""Measure how far a network sees: change its input here, and look how far its output moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.plan.axis_tiling import OutputRule
from bmz.plan.tiling import AxisRule
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor
from bmz.predict.enlarged import enlarged, legal_size, spatial_sizes

SHARE = 1e-3
"""A movement of less than this share of the output's range does not count."""

_NOISE = 1e-6  # share of the range: what the order of sums may make
_WIDE = 256  # px: so large at least is the image of a 2-D network that takes any size
_SHIFTS = (0, 5, 8)  # px: pooling makes the reach of a pixel depend on where it lies

Finish = Callable[[list[AnyArray]], list[AnyArray]]
"""What is done with the outputs of the network before they are looked at."""


@dataclass(frozen=True)
class Reach:
    """How far the output of a network moves, px of the input.

    Parameters
    ----------
    pixel_px : when one pixel in the middle changes from dark to bright, or the reverse
    edge_px : when all that lies beyond an edge through the middle changes
    seen_px : so far could be looked at
    sees_whole : the output moved at the far border too, by however little
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

    The larger the share of the output's range that counts, the shorter the reach: it is `SHARE`.

    Parameters
    ----------
    tensors : inputs of the network, after the declared preprocessing
    rules, outputs : as for the tiles of an image
    finish : such as the declared postprocessing
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
    """How far each output moved, as a share of its range."""

    shares: list[AnyArray]
    outputs: Sequence[OutputRule]

    def farthest(self, axis: str, at: int, share: float) -> int:
        """Give the largest distance from `at`, px, of what moved by more than `share`."""
        return max((int(np.abs(p - at).max()) for p in self._places(axis, share)), default=0)

    def beyond(self, axis: str, at: int, share: float, *, up: bool) -> int:
        """Give how far, px, the part that was left alone moved: above `at`, or below it."""
        found = [(p - at + 1 if up else at - p) for p in self._places(axis, share)]
        return max((int(distance.max()) for distance in found), default=0)

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
    """What the network gives for the image as it is, to hold others against."""

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
        shares = [np.abs(found - base) / (float(np.ptp(base)) or 1.0) for found, base in pairs]
        return _Movement(shares, self._outputs)

    def _run(self, image: Sequence[Tensor]) -> list[AnyArray]:
        found = self._finish(self._backend.run([tensor.array for tensor in image]))
        return [array.astype(np.float64) for array in found]


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
    """Change the pixel at the middle, `shift` px further on, of every input that has one."""
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
    """Turn bright to dark from `at` on, then up to `at`."""
    for half in (slice(at, None), slice(0, at)):
        result = []
        for array, axes in image:
            changed = array.copy()
            if axis in axes:
                part = (slice(None),) * axes.index(axis) + (half,)
                changed[part] = array.max() - (array[part] - array.min())
            result.append(Tensor(changed, axes))
        yield result
