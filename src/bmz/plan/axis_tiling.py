"""The tiles along one axis: where they lie, and which part of their output is kept.

Positions are counted in pixels of the image, so that padding lies below 0 and from its size on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil

from bmz.base.errors import CouldNotTell
from bmz.plan.tile_way import Blend, SplineBlend


class OffGrid(CouldNotTell):
    """A size or position in the input is no whole number of output pixels."""

    def __init__(self, axis: str, found: str, wanted: str) -> None:
        super().__init__(
            f"axis {axis}: {found}, but {wanted}",
            hint="the description of the model is at fault; tell its authors",
            code="size.grid",
        )


@dataclass(frozen=True)
class OutputRule:
    """How one output lies on the input.

    Parameters
    ----------
    axes : one letter an axis, such as ``bcyx``
    spacing : pixels of the input for one of the output, of axes where it is not 1; 2 for an
        output of half the size, ``Fraction(1, 2)`` for one of twice the size
    lost : pixels of the input on each side for which there is no output, where it is not 0
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
    blend : how tiles are averaged where they overlap, of which all is kept then; None cuts them
    """

    axis: str
    image: int
    tile: int
    starts: tuple[int, ...]
    cuts: tuple[int, ...]
    blend: Blend | SplineBlend | None = None

    @property
    def padding(self) -> tuple[int, int]:
        """Give the pixels that must be added before and after the image."""
        return -self.starts[0], self.starts[-1] + self.tile - self.image

    @property
    def overlap(self) -> int:
        """Give the smallest overlap of two neighbours; 0 for a single tile."""
        return min((a + self.tile - b for a, b in pairwise(self.starts)), default=0)

    def kept(self, output: OutputRule) -> tuple[Kept, ...]:
        """Say for each tile which part of an output is kept, and where it goes.

        Raises
        ------
        OffGrid
            A tile or a cut is no whole number of output pixels.
        """
        spacing, lost = Fraction(output.spacing.get(self.axis, 1)), output.lost.get(self.axis, 0)
        self.tile_output(output)  # or refuse it
        kept = []
        for start, (cut, end) in zip(self.starts, self._parts(lost), strict=True):
            first = self._whole(cut - start - lost, spacing)
            target = slice(self._whole(cut, spacing), ceil(end / spacing))
            kept.append(Kept(slice(first, first + target.stop - target.start), target))
        return tuple(kept)

    def _parts(self, lost: int) -> Iterable[tuple[int, int]]:
        """Give from where to where each tile is kept, px of the image."""
        if self.blend is None:
            return pairwise(self.cuts)
        seen = ((start + lost, start + self.tile - lost) for start in self.starts)
        return ((max(low, 0), min(high, self.image)) for low, high in seen)

    def tile_output(self, output: OutputRule) -> int:
        """Give the size of what a network makes of one tile."""
        spacing, lost = Fraction(output.spacing.get(self.axis, 1)), output.lost.get(self.axis, 0)
        return self._whole(self.tile - 2 * lost, spacing)

    def image_output(self, output: OutputRule) -> int:
        """Give the size of the output for the image, a last incomplete pixel included."""
        return ceil(self.image / Fraction(output.spacing.get(self.axis, 1)))

    def _whole(self, size: int, spacing: Fraction) -> int:
        count = size / spacing
        if count.denominator != 1 or count < 0:
            wanted = f"a pixel of the output is {spacing} px of the input"
            raise OffGrid(self.axis, f"a tile of {self.tile} px is cut at {size} px", wanted)
        return int(count)

    def __str__(self) -> str:
        before, after = self.padding
        tiles = f"{len(self.starts)} tile{'s' * (len(self.starts) > 1)} of {self.tile} px"
        averaged = " and averaged there" if self.blend is not None else ""
        overlap = f", overlapping by {self.overlap} px{averaged}" if len(self.starts) > 1 else ""
        padding = f", padded by {before} + {after} px" if before or after else ""
        return f"{self.axis:<8}{self.image} px: {tiles}{overlap}{padding}"
