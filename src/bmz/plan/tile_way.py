"""How a family of networks wants its tiles: what lies beyond the image, and how tiles meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

PadMode = Literal["reflect", "symmetric", "edge", "constant"]
"""How the image goes on beyond its border, in the words of ``numpy.pad``; constant is 0."""


@dataclass(frozen=True)
class Blend:
    """How tiles that overlap become one map: by an average whose weights fall towards their edges.

    The weight at a distance d from the nearest edge is ``1 / (1 + exp((edge_px - d) / fall_px))``.

    Parameters
    ----------
    overlap : there are ``(1 + 2 * overlap)`` times the tiles that would just cover the image
    edge_px : distance from the edge at which the weight is a half
    fall_px : over which it falls to 1 / (1 + e)
    """

    overlap: float
    edge_px: float
    fall_px: float

    def starts(self, total: int, tile: int) -> Iterator[int]:
        """Give where the tiles begin that cover `total` px, evenly spread and rounded down."""
        last = ceil((1 + 2 * self.overlap) * total / tile) - 1
        step = (total - tile) / last
        yield from (int(i * step) for i in range(last))
        yield total - tile


@dataclass(frozen=True)
class TileWay:
    """What the reference implementation of a family of networks does at borders and seams.

    Parameters
    ----------
    pad : how the image goes on beyond its border
    margin_px : added before and after the image at least, also where its size is legal; what more
        a legal size needs is shared between both sides then. 0 pads at the end alone
    side_px : side of the largest tile along y and x; None for what suits the device
    blend : how overlapping tiles are averaged; None cuts each in the middle of its overlap
    source : who says so
    """

    pad: PadMode = "reflect"
    margin_px: int = 0
    side_px: int | None = None
    blend: Blend | None = None
    source: str = ""

    def cut_hard(self) -> TileWay:
        """Give the same border, with tiles that suit the device and are not averaged."""
        return replace(self, side_px=None, blend=None)

    def as_record(self) -> dict[str, Any]:
        """Give it as plain values, for the run record."""
        blend = self.blend
        return {
            "pad": self.pad,
            "margin": self.margin_px,
            "seams": "cut" if blend is None else "averaged",
        }

    def __str__(self) -> str:
        padding = _PADDINGS[self.pad]
        margin = f", {self.margin_px} px or more on every side" if self.margin_px else ""
        return f"{padding}{margin}"


_PADDINGS = {
    "reflect": "mirrored",
    "symmetric": "mirrored with its edge",
    "edge": "its edge repeated",
    "constant": "zeros",
}

MIRRORED = TileWay(source="the convention of the U-Nets of the zoo")
"""What is done where no reference says more: the image goes on mirrored, at its end."""
