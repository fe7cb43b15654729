"""What is known of an image before a pixel is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from bmz.base.axes import in_image_order
from bmz.base.values import dataclass
from bmz.image.faults import AxesUnknown, ImageUnreadable
from bmz.image.given_names import given_name

UNKNOWN_AXIS = "q"
"""The letter of an axis that the file does not name (tifffile uses the same)."""

Taken: TypeAlias = 'int | Literal["max"]'
"""What is taken along an axis: one position, or at each pixel the largest value of all."""


@dataclass(frozen=True)
class ImageInfo:
    """The facts of one image (one series of a file), as the file states them.

    Parameters
    ----------
    path : the file, or the folder of OME-Zarr; of HDF5 with the dataset in brackets that is named
    axes : one letter per axis in the order of the file, of ``tczyx`` and ``q`` for an unnamed one
    shape : as stored, one number per letter of `axes`
    dtype : of the pixels
    pixel_um : length of a pixel in um along z, y, x; axes whose length is unknown are left out
    pixel_from : where these numbers come from, such as ``"OME-XML"``; empty when there are none
    odd_pixel : lengths that were read but cannot be meant, such as ``"x: 0.0139 inch (72 dpi)"``
    impossible_pixel : axis of the image -> such a length, where a microscope or a microscopist's
        program stated it
    magnification : of the objective; None if the file does not state it
    channel_names : as many as channels, or none
    colour : red, green and blue of one photograph rather than stains
    series, series_count : which of how many images of the file this is
    series_names : what the file calls each of them, or nothing
    series_key : the name or number by which it was asked for; empty for that of a file
    remarks : what else one should know of the file, each a sentence, such as a lossy compression
    cautions : what one should know before trusting the image, each a sentence
    well : of a plate, such as ``A1``, where the file itself says in which it lies
    stack : the image with all its axes, where it is made of one of more axes; else None
    taken : axis of `stack` that the image does not have -> what is taken along it
    alone : the image by itself, where `further` are joined to it
    further : input of a model -> image on the same grid, whose channels lie behind those of this
        one and of those before it, as one image with them; see `joined_info`
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    pixel_from: str = ""
    odd_pixel: tuple[str, ...] = ()
    impossible_pixel: Mapping[str, str] = field(default_factory=dict)
    magnification: float | None = None
    channel_names: tuple[str, ...] = ()
    colour: bool = False
    series: int = 0
    series_count: int = 1
    series_names: tuple[str, ...] = ()
    series_key: str = ""
    remarks: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    well: str = ""
    stack: ImageInfo | None = None
    taken: Mapping[str, Taken] = field(default_factory=dict)
    alone: ImageInfo | None = None
    further: Mapping[str, ImageInfo] = field(default_factory=dict)

    @property
    def images(self) -> tuple[ImageInfo, ...]:
        """Return the images of which this one is joined; itself where it is none of several."""
        return (self if self.alone is None else self.alone, *self.further.values())

    @property
    def series_name(self) -> str:
        """Return what the file calls this image; empty for nothing."""
        return self.series_names[self.series] if self.series_names else ""

    @property
    def place(self) -> Path:
        """Return the path by which the image was asked for, such as ``cells.czi[2]``."""
        name = f"{self.path.name}[{self.series_key}]"
        return self.path.with_name(name) if self.series_key else self.path

    @property
    def given_name(self) -> str:
        """What the user calls it: its path or address, and which one of its file it is."""
        return given_name(self.place)

    @property
    def sizes(self) -> dict[str, int]:
        """Return the size of each named axis."""
        return {a: n for a, n in zip(self.axes, self.shape, strict=True) if a != UNKNOWN_AXIS}

    @property
    def whole(self) -> ImageInfo:
        """The image with all the axes of the file."""
        return self if self.stack is None else self.stack.whole

    @property
    def read_for_each(self) -> int:
        """How many pixels of the file are read for one of the image: of all it is the largest."""
        if self.stack is None:
            return 1
        along = (self.stack.sizes[axis] for axis, place in self.taken.items() if place == "max")
        return prod(along) * self.stack.read_for_each

    def taking(self, taken: Mapping[str, Taken]) -> ImageInfo:
        """Return the image that is left when one position, or the largest, is taken along axes.

        Parameters
        ----------
        taken : by axis, of those of the image
        """
        if not taken:
            return self
        kept = {axis: n for axis, n in self.sizes.items() if axis not in taken}
        return replace(
            self,
            axes="".join(kept),
            shape=tuple(kept.values()),
            pixel_um={axis: um for axis, um in self.pixel_um.items() if axis in kept},
            impossible_pixel={a: why for a, why in self.impossible_pixel.items() if a in kept},
            stack=self,
            taken=taken,
        )

    def refuse_unknown_axes(self) -> None:
        """Refuse the image where an axis has no name.

        Raises
        ------
        AxesUnknown
        """
        if UNKNOWN_AXIS in self.axes or not {"y", "x"} <= set(self.axes):
            raise AxesUnknown(self.path, self.axes, self.shape)

    def refuse_changed(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Refuse pixels of another size or dtype than was found; axes of size 1 may differ.

        Raises
        ------
        ImageUnreadable
        """
        stored, expected = ([n for n in sizes if n > 1] for sizes in (shape, self.shape))
        if stored != expected or dtype != self.dtype:
            raise ImageUnreadable(self.path, "has changed since it was inspected")


def joined_info(image: ImageInfo, further: Mapping[str, ImageInfo]) -> ImageInfo:
    """Return the facts of an image to whose channels those of further images are added.

    Values keep what they are: the dtype is the smallest that holds those of all.

    Parameters
    ----------
    image : whose name, lengths and axes are those of the whole
    further : input of a model -> image with the same sizes along t, z, y and x; none for none
    """
    if not further:
        return image
    images = (image, *further.values())
    axes = in_image_order({*image.sizes, "c"})
    sizes = {**image.sizes, "c": sum(each.sizes.get("c", 1) for each in images)}
    return replace(
        image,
        axes=axes,
        shape=tuple(sizes[axis] for axis in axes),
        dtype=np.result_type(*(each.dtype for each in images)),
        channel_names=(),
        colour=False,
        stack=None,
        taken={},
        alone=image,
        further=further,
    )


@dataclass(frozen=True)
class PixelSize:
    """What a file says about the length of a pixel.

    Parameters
    ----------
    um : length in um along z, y, x; unknown ones are left out
    source : where it comes from, such as ``"ImageJ"``; empty when `um` is
    odd : lengths that were read but cannot be meant, in words
    impossible : axis -> those of them that a microscope or a microscopist's program stated; the
        dots an inch of screens and printers are none of these
    magnification : of the objective, as it is engraved; None if it is not stated
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    odd: tuple[str, ...] = ()
    impossible: Mapping[str, str] = field(default_factory=dict)
    magnification: float | None = None


@dataclass(frozen=True)
class Header:
    """The facts of one image in the order of the file, without its alpha channel.

    Parameters
    ----------
    axes : one letter per axis of ``tczyx``, ``q`` for an unnamed one
    shape : one number per letter of `axes`
    dtype : of the pixels, in the byte order of this machine
    pixel : the length of a pixel
    channel_names : as many as channels, or none
    colour : red, green and blue of one photograph
    series_count : how many images the file holds
    series_names : what the file calls each of them, or nothing
    remarks : what else one should know of the file, each a sentence
    cautions : what one should know before trusting the image, each a sentence
    well : of a plate, such as ``A1``; empty if the file does not say
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel: PixelSize = field(default_factory=PixelSize)
    channel_names: tuple[str, ...] = ()
    colour: bool = False
    series_count: int = 1
    series_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    well: str = ""
