"""Metadata of an image, known before any pixel is read."""

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
"""What is taken along an axis: one position, or the maximum along the axis at each pixel."""


@dataclass(frozen=True)
class ImageInfo:
    """The metadata of one image (one series of a file), as the file states them.

    Parameters
    ----------
    path : the file, or the OME-Zarr folder; for HDF5 with the chosen dataset, if any, in brackets
    axes : one letter of ``tczyx`` per axis, in the order of the file; ``q`` for an unnamed axis
    shape : as stored, one number per letter of `axes`
    dtype : dtype of the pixels
    pixel_um : pixel size in um along z, y, x; axes of unknown pixel size are left out
    pixel_from : source of the pixel size, such as ``"OME-XML"``; empty if there is none
    odd_pixel : implausible pixel sizes found in the file, such as ``"x: 0.0139 inch (72 dpi)"``
    impossible_pixel : axis of the image -> implausible pixel size that was stated by a microscope
        or by microscopy software
    magnification : magnification of the objective; None if the file does not state it
    channel_names : one name per channel, or empty
    colour : whether the channels are red, green and blue of an RGB image rather than stains
    series, series_count : index of this image in the file, and number of images in the file
    series_names : name of each image of the file, or empty
    series_key : name or number by which the image was requested; empty if only the file was
    remarks : further facts about the file, such as lossy compression, one sentence each
    cautions : what to know before trusting the image, one sentence each
    well : well of a plate, such as ``A1``, if the file itself states it
    stack : image with all axes of the file, if this one is taken from it; otherwise None
    taken : axis of `stack` that this image lacks -> what is taken along it
    alone : this image without the channels of `further`; None if nothing is joined to it
    further : input of a model -> image on the same grid; the channels of these images follow those
        of this one, in order, see `joined_info`
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
        """Return the images that this one joins; only itself if it joins none."""
        return (self if self.alone is None else self.alone, *self.further.values())

    @property
    def series_name(self) -> str:
        """Return the name of this image in the file; empty if it has none."""
        return self.series_names[self.series] if self.series_names else ""

    @property
    def place(self) -> Path:
        """Return the path by which the image was requested, such as ``cells.czi[2]``."""
        name = f"{self.path.name}[{self.series_key}]"
        return self.path.with_name(name) if self.series_key else self.path

    @property
    def given_name(self) -> str:
        """Return the path or address that the user gave, and the image within the file."""
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
        """Return how many pixels of the file are read per pixel: all of those along a maximum."""
        if self.stack is None:
            return 1
        along = (self.stack.sizes[axis] for axis, place in self.taken.items() if place == "max")
        return prod(along) * self.stack.read_for_each

    def taking(self, taken: Mapping[str, Taken]) -> ImageInfo:
        """Return the image after taking one position, or the maximum, along some of its axes.

        Parameters
        ----------
        taken : axis of the image -> what is taken along it
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
        """Raise an error if an axis has no name.

        Raises
        ------
        AxesUnknown
        """
        if UNKNOWN_AXIS in self.axes or not {"y", "x"} <= set(self.axes):
            raise AxesUnknown(self.path, self.axes, self.shape)

    def refuse_changed(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Raise an error if pixels have another size or dtype; axes of size 1 may differ.

        Raises
        ------
        ImageUnreadable
        """
        stored, expected = ([n for n in sizes if n > 1] for sizes in (shape, self.shape))
        if stored != expected or dtype != self.dtype:
            raise ImageUnreadable(self.path, "has changed since it was inspected")


def joined_info(image: ImageInfo, further: Mapping[str, ImageInfo]) -> ImageInfo:
    """Return the metadata of an image that is joined with the channels of further images.

    Values do not change: the dtype is the smallest that holds the values of all images.

    Parameters
    ----------
    image : first image, which determines the name, the pixel size and the axes of the result
    further : input of a model -> image with the same sizes along t, z, y and x; may be empty
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
    """The pixel size that a file states.

    Parameters
    ----------
    um : pixel size in um along z, y, x; unknown ones are left out
    source : source of the pixel size, such as ``"ImageJ"``; empty if `um` is
    odd : implausible pixel sizes found in the file, in words
    impossible : axis -> implausible pixel size that was stated by a microscope or by microscopy
        software; the dots per inch of screens and printers do not count
    magnification : magnification engraved on the objective; None if it is not stated
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    odd: tuple[str, ...] = ()
    impossible: Mapping[str, str] = field(default_factory=dict)
    magnification: float | None = None


@dataclass(frozen=True)
class Header:
    """The metadata of one image in the axis order of the file, without its alpha channel.

    Parameters
    ----------
    axes : one letter of ``tczyx`` per axis, ``q`` for an unnamed axis
    shape : one number per letter of `axes`
    dtype : dtype of the pixels, in native byte order
    pixel : pixel size
    channel_names : one name per channel, or empty
    colour : whether the channels are red, green and blue of an RGB image
    series_count : number of images in the file
    series_names : name of each image of the file, or empty
    remarks : further facts about the file, one sentence each
    cautions : what to know before trusting the image, one sentence each
    well : well of a plate, such as ``A1``; empty if the file does not state it
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
