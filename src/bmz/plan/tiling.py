"""Tiles: their positions along an axis, the part of each that is kept, and the grid of all."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, lcm, prod
from sys import maxsize
from types import MappingProxyType
from typing import TYPE_CHECKING

from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.plan.tile_way import MIRRORED, Blend, PadMode, Span, SplineBlend, TileWay

if TYPE_CHECKING:
    from bmz.plan.tile_way import BorderRecord


class OffGrid(CouldNotTell):
    """A size or position in the input is not a whole number of output pixels."""

    def __init__(self, axis: str, actual: str, expected: str) -> None:
        super().__init__(
            f"axis {axis}: {actual}, but {expected}",
            hint="the description of the model is at fault; tell its authors",
            code="size.grid",
        )


@dataclass(frozen=True)
class OutputRule:
    """How one output is placed on the input.

    Parameters
    ----------
    axes : one letter per axis, such as ``bcyx``
    spacing : input pixels per output pixel, for axes where this is not 1; 2 for an output of half
        the size, ``Fraction(1, 2)`` for one of twice the size
    lost : input pixels on each side without output, for axes where this is not 0
    """

    axes: str
    spacing: Mapping[str, Fraction | int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What one tile contributes along one axis, in pixels of an output.

    Parameters
    ----------
    source : of the output of the tile
    target : of the output of the image
    """

    source: slice
    target: slice


@dataclass(frozen=True)
class AxisTiling:
    """The tiles along one axis.

    Parameters
    ----------
    axis : ``z``, ``y`` or ``x``
    image : size of the image
    tile : size of every tile
    starts : where each tile begins, in pixels of the image; below 0 in the padding
    cuts : tile ``i`` is kept from ``cuts[i]`` to ``cuts[i + 1]``; from 0 to `image`
    blend : how overlapping tiles are averaged, in which case all of each is kept; None cuts them
    """

    axis: str
    image: int
    tile: int
    starts: tuple[int, ...]
    cuts: tuple[int, ...]
    blend: Blend | SplineBlend | None = None

    @property
    def padding(self) -> tuple[int, int]:
        """Return the pixels that must be added before and after the image."""
        return -self.starts[0], self.starts[-1] + self.tile - self.image

    @property
    def overlap(self) -> int:
        """Return the smallest overlap of two neighbours; 0 for a single tile."""
        return min((a + self.tile - b for a, b in pairwise(self.starts)), default=0)

    def kept(self, output: OutputRule) -> tuple[Kept, ...]:
        """Return for each tile the part of an output that is kept, and its position in the image.

        Raises
        ------
        OffGrid
            A tile or a cut is not a whole number of output pixels.
        """
        spacing, lost = Fraction(output.spacing.get(self.axis, 1)), output.lost.get(self.axis, 0)
        self.tile_output(output)  # raises OffGrid
        spans = []
        for start, (cut, end) in zip(self.starts, self._parts(lost), strict=True):
            first = self._whole(cut - start - lost, spacing)
            target = slice(self._whole(cut, spacing), ceil(end / spacing))
            spans.append(Kept(slice(first, first + target.stop - target.start), target))
        return tuple(spans)

    def _parts(self, lost: int) -> Iterable[tuple[int, int]]:
        """Return the start and end of the kept part of each tile, px of the image."""
        if self.blend is None:
            return pairwise(self.cuts)
        parts = ((start + lost, start + self.tile - lost) for start in self.starts)
        return ((max(low, 0), min(high, self.image)) for low, high in parts)

    def tile_output(self, output: OutputRule) -> int:
        """Return the size of the network's output for one tile."""
        spacing, lost = Fraction(output.spacing.get(self.axis, 1)), output.lost.get(self.axis, 0)
        return self._whole(self.tile - 2 * lost, spacing)

    def image_output(self, output: OutputRule) -> int:
        """Return the size of the output for the image, including a last incomplete pixel."""
        return ceil(self.image / Fraction(output.spacing.get(self.axis, 1)))

    def _whole(self, size: int, spacing: Fraction) -> int:
        count = size / spacing
        if count.denominator != 1 or count < 0:
            rule = f"a pixel of the output is {spacing} px of the input"
            raise OffGrid(self.axis, f"a tile of {self.tile} px is cut at {size} px", rule)
        return int(count)

    def __str__(self) -> str:
        before, after = self.padding
        tiles = f"{len(self.starts)} tile{'s' * (len(self.starts) > 1)} of {self.tile} px"
        averaged = " and averaged there" if self.blend is not None else ""
        overlap = f", overlapping by {self.overlap} px{averaged}" if len(self.starts) > 1 else ""
        padding = f", padded by {before} + {after} px" if before or after else ""
        return f"{self.axis:<8}{self.image} px: {tiles}{overlap}{padding}"


TILE_PX = 1088**2
"""Maximum pixels of a tile whose sides are chosen together: memory grows with them."""

NEARLY = 1.02
"""Factor on the fewest pixels up to which the choice with less memory is preferred."""

SIDE_2D = 768
SIDE_3D: Mapping[str, int] = MappingProxyType({"z": 32, "y": 256, "x": 256})
_ALIGNMENTS = (16, 8, 4, 2)


class HaloTooWide(CouldNotTell):
    """The overlap leaves nothing of a tile."""

    def __init__(self, rule: AxisRule, tile: int, image: int) -> None:
        fixed = f"give an image of at most {tile - 2 * rule.lost} px, or tell the model's authors"
        super().__init__(
            f"axis {rule.axis} of the image has {image} px and needs several tiles of {tile} px, "
            f"but they must overlap by {rule.margin} px and start at multiples of {rule.align} px",
            hint=f"--tile {rule.least_tile} or more" if rule.step else fixed,
            code="size.halo",
        )


@dataclass(frozen=True)
class AxisRule:
    """What a network requires of one spatial axis, all in pixels of its input.

    Parameters
    ----------
    axis : ``z``, ``y`` or ``x``
    least : the smallest legal size; for a fixed size, that size
    step : a legal size is ``least + k * step``; 0 for a fixed size
    halo : how much of the output is not kept at each inner edge of a tile, declared or chosen
    grid : cuts lie on multiples of it: the least common multiple of the numerators of the
        spacings of all outputs, such as 2 for an output of half the size
    lost : maximum number of pixels per side without output (valid convolutions)
    """

    axis: str
    least: int
    step: int
    halo: int = 0
    grid: int = 1
    lost: int = 0

    @property
    def margin(self) -> int:
        """Return the minimum overlap of two neighbours, with halos on the grid."""
        return 2 * (_ceil_div(self.halo, self.grid) * self.grid + self.lost)

    @property
    def align(self) -> int:
        """Return the multiples at which tiles start."""
        return lcm(max(self.step, 1), self.grid)

    @property
    def least_tile(self) -> int:
        """Return the smallest legal size of a tile from which something is kept after its halos."""
        sizes = self.legal_sizes(self.margin + 2 * self.align)
        return next((size for size in sizes if size >= self.margin + self.align), sizes[-1])

    def legal_sizes(self, most: int) -> range:
        """Return the legal sizes up to `most`, or only the smallest one if `most` is below it.

        Raises
        ------
        OffGrid
            No valid size gives a whole number of output pixels.
        """
        # from the first size of which something is kept
        least = self.least
        if self.step:
            least += max(0, (2 * self.lost - least) // self.step + 1) * self.step
        sizes = (least + k * self.step for k in range(self.grid if self.step else 1))
        first = next((size for size in sizes if not self._off_grid(size)), None)
        if first is None:
            words = f"the network takes {self.least} px + k * {self.step} px and loses {self.lost}"
            raise OffGrid(self.axis, words, f"what is left must be a multiple of {self.grid} px")
        if not self.step:
            return range(first, first + 1)
        return range(first, max(first, most) + 1, lcm(self.step, self.grid))

    def _off_grid(self, size: int) -> bool:
        return (size - 2 * self.lost) % self.grid != 0 or size <= 2 * self.lost


@dataclass(frozen=True)
class Tiling:
    """All tiles of an image, the same for each of its channels.

    Parameters
    ----------
    axes : the tiles along each spatial axis, in the order of the rules
    way : how the image continues beyond its border, and how tiles meet
    """

    axes: tuple[AxisTiling, ...]
    way: TileWay = MIRRORED

    def pad(self, along: AxisTiling) -> PadMode:
        """Return how the image continues beyond its border along one axis."""
        one_tile = len(along.starts) == 1
        return self.way.alone if one_tile and self.way.alone is not None else self.way.pad

    @property
    def margin_px(self) -> int:
        """Return the minimum number of pixels added on every side of a plane."""
        if self.way.by_halo == "never":
            return self.way.margin_px
        return min(min(along.padding) for along in self.axes if along.axis != "z")

    @property
    def count(self) -> int:
        """Return the number of tiles."""
        return prod(len(along.starts) for along in self.axes)

    @property
    def tile(self) -> dict[str, int]:
        """Return the size of a tile along each axis."""
        return {along.axis: along.tile for along in self.axes}

    @property
    def pixel_ratio(self) -> float:
        """Return the number of pixels that the network sees per image pixel."""
        planned = self.count * prod(along.tile for along in self.axes)
        return planned / prod(along.image for along in self.axes)

    def border_record(self) -> BorderRecord:
        """Return what happens at the border and at seams as plain values, for the run record."""
        pads = {along.axis: self.pad(along) for along in self.axes}
        words = ", ".join(f"{pad} along {axis}" for axis, pad in pads.items())
        return {
            "pad": words if len(set(pads.values())) > 1 else next(iter(pads.values())),
            "margin": self.margin_px,
            "seams": "cut" if self.way.blend is None else "averaged",
        }

    def positions(self) -> Iterator[tuple[int, ...]]:
        """Return the number of each tile along each axis, the last axis fastest."""
        return product(*(range(len(along.starts)) for along in self.axes))

    def describe(self) -> tuple[str, ...]:
        """Return the lines that ``--plan`` prints."""
        many = f"{'tiles':<8}{self.count}, {self.pixel_ratio:.2f} x the pixels of the image"
        padded = any(along.padding != (0, 0) for along in self.axes)
        border = (f"{'border':<8}{self.way}",) if padded else ()
        return (many, *map(str, self.axes), *border)

    def __str__(self) -> str:
        return "\n".join(self.describe())


def plan_tiles(
    shape: Mapping[str, int],
    rules: Sequence[AxisRule],
    *,
    side: int | Mapping[str, int] | None = None,
    way: TileWay = MIRRORED,
) -> Tiling:
    """Cover an image with the smallest number of equal, legal tiles.

    An axis that fits one tile gets one, padded at its end (and by ``lost`` on both sides), so
    that the network sees the border of the image as it is. Otherwise neighbours overlap by
    ``2 * (halo + lost)`` or more, are cut in the middle of their overlap, and are no larger than
    their number demands. Tiles start at multiples of the step (of 16 or less for a fixed size),
    since a network that pools is equivariant only to shifts by that much.

    Without a wanted side, the sides along all axes are chosen together, so that the network sees
    the fewest pixels with tiles of at most `TILE_PX` (or of the usual sides, where these are more);
    among choices that differ by less than `NEARLY`, the smallest tiles.

    If `way` requires a margin, both sides are padded by at least that much and share the rest, as
    they do if it is centred. If it requires averaging, it determines the positions of tiles with
    the wanted side, regardless of halo and step.

    Parameters
    ----------
    shape : size of the image along each axis; axes without a rule are ignored
    rules : one per spatial axis
    side : the largest tile wanted, px; a single number is for y and x. For axes left out, see
        `default_side`. A tile is never smaller than the smallest valid size
    way : how the image continues beyond its border, and how tiles meet

    Raises
    ------
    HaloTooWide
        Several tiles are needed, and the overlap leaves nothing of them.
    OffGrid
        No valid size gives a whole number of output pixels.
    """
    if side is None and way.blend is None:
        return Tiling(_fewest_pixels(shape, rules, way), way)
    sides = largest_sides(rules, side)
    axes = (_along(shape[rule.axis], rule, sides[rule.axis], way) for rule in rules)
    return Tiling(tuple(axes), way)


def default_side(rules: Sequence[AxisRule]) -> dict[str, int]:
    """Choose the largest tile: 768 px in 2-D; 32 px along z and 256 px along y and x in 3-D.

    A wide halo raises it, so that at least three quarters (2-D) or half (3-D) of a tile are kept
    along each axis. Balanced tiles then have 400 to 768 px, where a CPU is fastest.
    """
    flat = all(rule.axis != "z" for rule in rules)
    usual, times = ({}, 8) if flat else (SIDE_3D, 4)
    return {
        rule.axis: max(usual.get(rule.axis, SIDE_2D), times * (rule.halo + rule.lost))
        for rule in rules
    }


def largest_sides(
    rules: Sequence[AxisRule], side: int | Mapping[str, int] | None
) -> dict[str, int]:
    """Return the side of the largest tile along each axis, in the form that `plan_tiles` takes."""
    sides = default_side(rules)
    if side is None:
        return sides
    if isinstance(side, Mapping):
        return sides | dict(side)
    return {axis: min(side, most) if axis == "z" else side for axis, most in sides.items()}


def _fewest_pixels(
    shape: Mapping[str, int], rules: Sequence[AxisRule], way: TileWay
) -> tuple[AxisTiling, ...]:
    """Choose the tiles along all axes together; see `plan_tiles`."""
    usual = default_side(rules)
    most = max(TILE_PX, prod(usual.values()))
    # with a margin by the halo, the side decides what fits one tile: use the same for all
    times = 2 if way.by_halo == "never" else (most / prod(usual.values())) ** (1 / len(rules))
    tried = (_tried(shape[rule.axis], rule, usual[rule.axis], times, way) for rule in rules)
    tilings = list(product(*tried))
    tile_px = [prod(along.tile for along in tiling) for tiling in tilings]
    least = min(tile_px)
    fit = [i for i, px in enumerate(tile_px) if px <= max(most, least)]
    seen_px = {i: tile_px[i] * prod(len(along.starts) for along in tilings[i]) for i in fit}
    near = NEARLY * min(seen_px.values())
    # among tiles of equal area, prefer the one with longer rows
    chosen = min((tile_px[i], tilings[i][0].tile, i) for i in fit if seen_px[i] <= near)
    return tilings[chosen[-1]]


def _tried(image: int, rule: AxisRule, usual: int, times: float, way: TileWay) -> list[AxisTiling]:
    """List tiles from half the usual side upwards: the smallest for each number of tiles."""
    tried = [_along(image, rule, round(times * usual), way)]
    while rule.step and tried[-1].tile > max(usual // 2, rule.least_tile):
        tried.append(_along(image, rule, tried[-1].tile - 1, way))
    # where the largest tile fits with its margin, do not use tiles without
    wide = 0 if way.by_halo == "never" else min(*tried[0].padding, rule.halo)
    return [along for along in tried if min(along.padding) >= wide]


def _along(image: int, rule: AxisRule, side: int, way: TileWay) -> AxisTiling:
    largest = rule.legal_sizes(side)
    target = _wanted_margin(image, rule, max(side, largest[0]), way)
    for margin in (_margin(target, rule, None), _margin(target, rule, largest[-1])):
        size = _covering(image, rule, margin)
        if size is not None and (not rule.step or size <= max(side, largest[0])):
            before = _before(image, size, rule, shared=bool(margin) or way.centred)
            return AxisTiling(rule.axis, image, size, (-before,), (0, image))
    if way.blend is None:
        return _several(image, rule, largest, margin, shared=bool(margin) or way.centred)
    return _averaged(image, rule, largest[-1], margin, way)


def _covering(image: int, rule: AxisRule, margin: int) -> int | None:
    """Return the smallest legal size that fits an image and its margins; None if there is none."""
    needed = image + 2 * (rule.lost + margin)
    sizes = rule.legal_sizes(needed + lcm(rule.step, rule.grid))
    enough = bisect_left(sizes, needed)
    return sizes[enough] if enough < len(sizes) else None


def _wanted_margin(image: int, rule: AxisRule, side: int, way: TileWay) -> int:
    def one_tile(margin: int) -> bool:
        size = _covering(image, rule, margin)
        return size is not None and (not rule.step or size <= side)

    wide = max(way.margin_px, rule.halo)
    if way.by_halo == "where cut":
        return way.margin_px if one_tile(way.margin_px) else wide
    if way.by_halo == "never" or rule.axis == "z":  # along z it would cost up to twice the tiles
        return way.margin_px
    # an image that fits one tile is not cut because of the margin
    return way.margin_px if one_tile(0) and not one_tile(rule.halo) else wide


def _margin(least: int, rule: AxisRule, tile: int | None) -> int:
    # with more than a quarter of a tile, nothing might be kept of some tiles
    grid = rule.grid
    whole = _ceil_div(least, grid) * grid
    return whole if tile is None else min(whole, tile // 4 // grid * grid)


def _before(image: int, covered: int, rule: AxisRule, *, shared: bool) -> int:
    # half of the rest, on the grid, comes before the image, or all of it after the image
    spare = covered - image - 2 * rule.lost
    return rule.lost + (spare // 2 // rule.grid * rule.grid if shared else 0)


def _averaged(image: int, rule: AxisRule, tile: int, margin: int, way: TileWay) -> AxisTiling:
    grid, lost, blend = rule.grid, rule.lost, way.blend
    if blend is None:
        raise ValueError(way)
    whole = _ceil_div(image, grid) * grid
    covered = _covering(image, rule, margin) or whole + 2 * (lost + margin)
    before = _before(image, covered, rule, shared=bool(margin) or way.centred)
    asked = Span(whole, covered - 2 * lost, before - lost, grid)
    usable = tile - 2 * lost
    # a short tile may lie entirely outside the image if a legal size needs much padding
    starts = tuple(low - lost for low in blend.laid(asked, usable) if -usable < low < image)
    inner = (min(max(cut, 0), image // grid * grid) for cut in _inner_cuts(tile, starts, grid))
    return AxisTiling(rule.axis, image, tile, starts, (0, *inner, image), blend)


def _inner_cuts(tile: int, starts: Sequence[int], grid: int) -> list[int]:
    # halo and starts are on the grid, so the middle rounded down still keeps the halo
    return [(a + tile + b) // 2 // grid * grid for a, b in pairwise(starts)]


def _several(image: int, rule: AxisRule, sizes: range, margin: int, *, shared: bool) -> AxisTiling:
    grid = rule.grid
    needed = image + 2 * (rule.lost + margin)

    def gaps(tile: int) -> int:  # their number; maxsize if nothing of a tile is kept
        stride, align = largest_stride(rule, tile)
        return _ceil_div(_ceil_div(needed - tile, align) * align, stride) if stride > 0 else maxsize

    fewest = gaps(sizes[-1])
    if fewest == maxsize:
        raise HaloTooWide(rule, sizes[-1], image)
    tile = sizes[bisect_left(sizes, -fewest, key=lambda size: -gaps(size))]
    align = largest_stride(rule, tile)[1]
    last = _ceil_div(needed - tile, align)
    before = _before(image, align * last + tile, rule, shared=shared)
    starts = tuple(align * (i * last // fewest) - before for i in range(fewest + 1))
    cuts = _inner_cuts(tile, starts, grid)
    # with a margin, the kept part of a tile may lie outside the image: omit the tile
    first, end = bisect_right(cuts, 0), bisect_left(cuts, image)
    return AxisTiling(rule.axis, image, tile, starts[first : end + 1], (0, *cuts[first:end], image))


def largest_stride(rule: AxisRule, tile: int) -> tuple[int, int]:
    """Return the largest stride that keeps the halo, and the alignment of starts that it uses."""
    room, align = tile - rule.margin, rule.align
    if not rule.step:
        # an alignment may cost a quarter of the stride at most
        aligns = (lcm(a, rule.grid) for a in _ALIGNMENTS)
        align = next((a for a in aligns if 4 * (room // a * a) >= 3 * room > 0), rule.grid)
    return room // align * align, align


def _ceil_div(size: int, by: int) -> int:
    return -(-size // by)
