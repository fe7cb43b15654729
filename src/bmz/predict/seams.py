"""Run a network on an image whole and in tiles, to see whether the tiles change the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.plan.axis_tiling import AxisTiling, OutputRule
from bmz.plan.tiling import AxisRule, Tiling, largest_stride, plan_tiles
from bmz.predict.backend import Backend
from bmz.predict.cutting import Tensor, cut
from bmz.predict.enlarged import enlarged, spatial_sizes
from bmz.predict.tiles import predict_tiled

_ALIGNMENTS = (16, 8, 4, 2, 1)


class NothingToCompare(CouldNotTell):
    """The halo leaves nothing of the image that is far enough from its border."""

    def __init__(self, axis: str, size: int, margin: int) -> None:
        super().__init__(
            f"axis {axis}: {size} px are run at once, and nothing of them is {margin} px or more "
            "from both borders",
            hint="the declared halo is too wide for the size; tell the model's authors",
            code="size.halo",
        )


@dataclass(frozen=True)
class TwoWays:
    """The outputs of a network for one image, made in two ways.

    Parameters
    ----------
    tiling : of the image
    tiled, whole : one array for each output: what lies away from the border
    enlarged_to : the sizes of the image where the test input was mirrored; else empty
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
    """Run a network in two tiles or more along each axis, and in one piece.

    A test input that is too small for two tiles goes on mirrored; of a larger one the beginning
    is taken. A network of one fixed size
    cannot see more in one piece: its piece lies over the middle of the seams, so that what it
    gives there is far from its own border.

    Parameters
    ----------
    tensors : inputs of the network, after the declared preprocessing
    rules, outputs : as for the tiles of an image, with the halo to be tried

    Raises
    ------
    NothingToCompare, HaloTooWide, NotTileable
        There is no way to make tiles, or nothing to see.
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
    """Choose the largest tile of which two fill the test input, or one that has more than halo."""
    if not rule.step:
        return rule.least
    margin, align = rule.halo + rule.lost, lcm(rule.step, rule.grid)
    least = rule.legal_sizes(0)[0]
    half = (had + 2 * rule.lost) // 2 + margin
    steps = max(0, ceil((2 * margin + align - least) / align), (half - least) // align)
    return least + steps * align


def _size(rule: AxisRule, side: int) -> int:
    """Give the image that two tiles fill, which overlap by no more than the halo asks for.

    A wider overlap would hide a halo that is too small.
    """
    stride, _ = largest_stride(rule, side)
    return side + max(stride, 1) - 2 * rule.lost


def _piece(rule: AxisRule, along: AxisTiling) -> tuple[int, int]:
    """Give start and size of the part that is run at once: all of it, or the middle of a seam."""
    if rule.step:
        return 0, along.image
    size = rule.least - 2 * rule.lost
    # a network that pools is equivariant only to shifts by its step: keep that of the tiles
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
    parts = []
    for array, axes in image:
        for axis, (start, size) in pieces.items():
            if axis in axes:
                array = cut(array, axes.index(axis), start, size, "reflect")  # noqa: PLW2901
        parts.append(Tensor(array, axes))
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
    """Cut what lies within `inner`, px of the image, from an output that begins at `starts`."""
    for axis, (low, high) in inner.items():
        if axis in rule.axes:
            spacing = Fraction(rule.spacing.get(axis, 1))
            first = int(starts.get(axis, 0) / spacing)
            start, stop = ceil(low / spacing) - first, floor(high / spacing) - first
            array = array[(slice(None),) * rule.axes.index(axis) + (slice(start, stop),)]
    return array
