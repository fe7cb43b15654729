"""How a family of networks is tiled, and what plans record about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Annotated, Literal

import numpy as np
from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12

from bmz.base.arrays import FloatArray
from bmz.base.values import dataclass

PadMode = Literal["reflect", "symmetric", "edge", "constant"]
"""How the image continues beyond its border, as in ``numpy.pad``; constant is 0."""

HaloMargin = Literal["never", "around planes", "where cut"]
"""Where a margin is as wide as the halo: along y and x, or along axes that are cut into tiles."""


@dataclass(frozen=True)
class Blend:
    """How overlapping tiles are merged: by an average whose weights fall towards their edges.

    The weight at a distance d from the nearest edge is ``1 / (1 + exp((edge_px - d) / fall_px))``.

    Parameters
    ----------
    overlap : ``(1 + 2 * overlap)`` times as many tiles are used as would just cover the image
    edge_px : distance from the edge at which the weight is a half
    fall_px : distance over which it falls from there to 1 / (1 + e)
    """

    overlap: float
    edge_px: float
    fall_px: float

    def starts(self, total: int, tile: int) -> Iterator[int]:
        """Return where the tiles begin that cover `total` px, evenly spread and rounded down."""
        last = ceil((1 + 2 * self.overlap) * total / tile) - 1
        step = (total - tile) / last
        yield from (int(i * step) for i in range(last))
        yield total - tile

    def laid(self, span: Span, tile: int) -> list[int]:
        """Return where the tiles begin, px of the image."""
        starts = self.starts(span.covered, tile)
        return [start // span.grid * span.grid - span.before for start in starts]

    def weights(self, inside: FloatArray, _overlap: int) -> FloatArray:
        """Return the weights of pixels at these distances from the nearest edge of a tile."""
        weights: FloatArray = 1 / (1 + np.exp((self.edge_px - inside) / self.fall_px))
        return weights


@dataclass(frozen=True)
class SplineBlend:
    """An average of tiles at a fixed stride, whose weights rise by a squared spline.

    The part of the last tile beyond the image is padding, half of it before the image. The weight
    at a distance d into an overlap of n px is ``2 (d / n)^2`` in its first half, and
    ``1 - 2 (1 - d / n)^2`` in its second.

    Parameters
    ----------
    stride : as a share of the tile
    """

    stride: float

    def laid(self, span: Span, tile: int) -> list[int]:
        """Return where the tiles begin, px of the image."""
        grid = span.grid
        step = max(min(ceil(self.stride * tile / 2) * 2, tile) // grid, 1) * grid
        last = max(ceil((span.image - tile) / step), 0)
        before = ceil((tile + step * last - span.image) / grid / 2) * grid
        return [i * step - before for i in range(last + 1)]

    def weights(self, inside: FloatArray, overlap: int) -> FloatArray:
        """Return the weights of pixels at these distances from the nearest edge of a tile."""
        at = np.clip(inside / max(overlap, 1), 0, 1)
        return np.where(at < 1 / 2, 2 * at**2, 1 - 2 * (1 - at) ** 2)


@dataclass(frozen=True)
class Span:
    """What averaged tiles must cover along one axis, px, without what the network loses.

    Parameters
    ----------
    image : size of the image, rounded up to the grid
    covered : with its padding, if the tiles do not determine it
    before : padding before the image
    grid : tiles start at multiples of it
    """

    image: int
    covered: int
    before: int
    grid: int


@dataclass(frozen=True)
class TileWay:
    """What the reference implementation of a family of networks does at borders and seams.

    Parameters
    ----------
    pad : how the image continues beyond its border
    margin_px : minimum padding before and after the image, even if its size is valid; further
        padding for a valid size is then shared between both sides. 0 pads only at the end
    by_halo : where the margin is the halo, if that is wider; around planes, an image that fits one
        tile only without the margin gets none
    centred : padding for a valid size is shared between both sides even without a margin
    alone : how the image continues along an axis that one tile covers; None for the same as `pad`
    side_px : side of the largest tile along y and x; None to suit the device
    blend : how overlapping tiles are averaged; None cuts each in the middle of its overlap
    source : of these rules
    """

    pad: PadMode = "reflect"
    margin_px: int = 0
    side_px: int | None = None
    blend: Blend | SplineBlend | None = None
    source: str = ""
    by_halo: HaloMargin = "never"
    centred: bool = False
    alone: PadMode | None = None

    def cut_hard(self) -> TileWay:
        """Return the same border, with tiles that suit the device and are not averaged."""
        return replace(self, side_px=None, blend=None)

    def __str__(self) -> str:
        padding = _PADDINGS[self.pad]
        margin = f", {self.margin_px} px or more on every side" if self.margin_px else ""
        margin = _BY_HALO.get(self.by_halo, margin)
        sides = ", shared between both sides" if self.centred else ""
        alone = f", {_PADDINGS[self.alone]} along an axis of one tile" if self.alone else ""
        return f"{padding}{margin}{sides}{alone}"


_PADDINGS = {
    "reflect": "mirrored",
    "symmetric": "mirrored including its edge",
    "edge": "its edge repeated",
    "constant": "zeros",
}

_BY_HALO = {
    "around planes": ", by the halo or more on every side",
    "where cut": ", by the halo or more on both sides where several tiles are needed",
}

MIRRORED = TileWay(source="the convention of the U-Nets of the zoo")
"""The default without a reference: mirror the image, at its end only."""


class BorderRecord(TypedDict):
    """What happens at the border of an image, and where tiles overlap."""

    pad: Annotated[str, Doc("how the image is continued beyond its border")]
    margin: Annotated[
        int, Doc("minimum padding on every side in px, even if the size is already valid")
    ]
    seams: Annotated[Literal["cut", "averaged"], Doc("what happens where tiles overlap")]


class PlanRecord(BorderRecord):
    """How an image is run."""

    weights: Annotated[str, Doc("format")]
    device: Annotated[str, Doc("the device: `cpu`, `cuda:0`, `mps`")]
    precision: Annotated[str, Doc("the precision: `float32`, `bfloat16` or `float16`")]
    precision_why: Annotated[str, Doc("the reason for this precision")]
    backend: Annotated[
        str, Doc("the framework: `native` for that of the format, else for example `openvino`")
    ]
    loop: Annotated[
        Mapping[str, int], Doc("number of positions along t and z at which the network is run")
    ]
    channels: Annotated[
        Sequence[Sequence[int]], Doc("image channel for each channel of each input; -1 means zeros")
    ]
    further: Annotated[
        Sequence[str], Doc("which of these channels come from further images, in words")
    ]
    clip: Annotated[float | None, Doc("percentile above which intensities are clipped")]
    invert: Annotated[bool, Doc("intensities are inverted")]
    scale: Annotated[float, Doc("factor by which the image is resized")]
    shape: Annotated[Mapping[str, int], Doc("shape of the resized image, px")]
    tile: Annotated[Mapping[str, int], Doc("px")]
    tiles: Annotated[int, Doc("number of tiles")]
    overlap: Annotated[Mapping[str, int], Doc("overlap of neighbouring tiles, px")]
    padding: Annotated[Mapping[str, Sequence[int]], Doc("padding before and after the image, px")]
    batch: Annotated[int, Doc("number of tiles run at once")]
    link: Annotated[Mapping[str, float], Doc("axes over which labels are joined -> least IoU")]
    link_gap: Annotated[
        int, Doc("number of planes or frames in which a joined object may be missing")
    ]
    whole_image_network: Annotated[
        str | None, Doc("a warning if the network sees its whole input at once")
    ]
