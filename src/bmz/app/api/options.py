"""What a call from Python gives: options, and an image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import WrongUsage
from bmz.base.lengths import lengths_by_axis
from bmz.base.link import GAPS, checked_ious, link_ious
from bmz.engine.image_header import read_spread
from bmz.engine.request import SCALES, RunRequest
from bmz.image.arrays import ArrayImage, inspect_array
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import laid_out, read_image
from bmz.spec.stated_kind import StatedKind, stated_kind

if TYPE_CHECKING:
    import xarray as xr


PixelSize = float | str | Mapping[str, float]
"""A length in um for y and x, words such as ``"z=2um,y=0.5um,x=0.5um"``, or um by axis."""

Setting = str | float | bool


class WordRefused(WrongUsage):
    """A word of the call does not mean anything."""

    def __init__(self, name: str, value: object, hint: str) -> None:
        super().__init__(f"{name}={value!r} cannot be meant", hint=hint, code="call.word")


@dataclass(frozen=True)
class ImageOptions:
    """What a call says about an image.

    Parameters
    ----------
    axes : one letter an axis in the order of the image, such as ``"zyx"``; None for its own names
    channels : image channel for each channel of the model, from 0; -1 for zeros
    pixel_size : um, over what the image says
    scale : resize factor before the network; ``"auto"`` finds it; None for none
    kind : what the image is, over what its pixels tell, such as ``"phase"`` or ``"em,neurites"``
    link : least IoU of labels that are joined over z and t, or by axis; None for none
    link_gap : planes or frames that a joined object may be missing in
    """

    axes: str | None = None
    channels: Sequence[int] | None = None
    pixel_size: PixelSize | None = None
    scale: float | Literal["auto"] | None = None
    kind: str | None = None
    link: float | str | Mapping[str, float] | None = None
    link_gap: int = 0

    def put_into(self, request: RunRequest) -> RunRequest:
        """Give the request with these words.

        Raises
        ------
        WordRefused
            A length, a factor or a kind cannot be meant.
        """
        if isinstance(self.scale, float | int) and not SCALES[0] <= self.scale <= SCALES[1]:
            raise WordRefused("scale", self.scale, "a factor between 0.001 and 1000, or 'auto'")
        if self.link_gap not in GAPS:
            raise WordRefused("link_gap", self.link_gap, "0 or 1")
        return replace(
            request,
            link=_ious(self.link),
            link_gap=self.link_gap,
            axes=self.axes,
            channels=None if self.channels is None else tuple(self.channels),
            pixel_um=_lengths(self.pixel_size),
            scale=self.scale,
            kind=_kind(self.kind),
        )


def _kind(words: str | None) -> StatedKind | None:
    try:
        return None if words is None else stated_kind(words)
    except ValueError as why:
        raise WordRefused("kind", words, str(why)) from why


def _ious(link: float | str | Mapping[str, float] | None) -> Mapping[str, float]:
    try:
        if isinstance(link, Mapping):
            return checked_ious(link)
        return {} if link is None else link_ious(str(link))
    except ValueError as why:
        raise WordRefused("link", link, str(why)) from why


def _lengths(size: PixelSize | None) -> Mapping[str, float]:
    try:
        lengths = lengths_by_axis(size) if isinstance(size, str) else size
    except ValueError as why:
        raise WordRefused("pixel_size", size, str(why)) from why
    if lengths is None:
        return {}
    by_axis = lengths if isinstance(lengths, Mapping) else dict.fromkeys("yx", float(lengths))
    if not by_axis.keys() <= set("zyx") or not all(um > 0 for um in by_axis.values()):
        raise WordRefused("pixel_size", size, "lengths above 0 in um, of z, y and x")
    return by_axis


ImageLike: TypeAlias = "str | Path | AnyArray | xr.DataArray"


@dataclass(frozen=True)
class GivenImage:
    """An image and what is known of it.

    Parameters
    ----------
    info : its facts
    array : the pixels, where they are in memory; None for a file
    """

    info: ImageInfo
    array: ArrayImage | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of an array in C order; None for a file, which is hashed as it is."""
        if self.array is None:
            return None
        return hashlib.sha256(np.ascontiguousarray(self.array).data.cast("B")).hexdigest()

    def read(self, info: ImageInfo) -> Pixels:
        """Give the pixels, with the words that `info` has of them; see `read_image`."""
        if self.array is None:
            return read_image(info)
        info.refuse_unknown_axes()
        pixels = np.asarray(self.array)
        return laid_out(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), info)

    def sample(self, info: ImageInfo) -> Pixels:
        """Give pixels to look at: of a file an evenly spread sample, else all."""
        if self.array is None:
            return read_spread(info)
        return self.read(info)


def given(image: ImageLike, axes: str | None = None) -> GivenImage:
    """Look at an image.

    Parameters
    ----------
    image : a path, or an array
    axes : the user's word, one letter an axis

    Raises
    ------
    BmzError
        The file cannot be read, or has other axes than the user says.
    """
    if isinstance(image, str | Path):
        return GivenImage(inspect_image(Path(image), axes=axes))
    return GivenImage(inspect_array(image, axes=axes), image)
