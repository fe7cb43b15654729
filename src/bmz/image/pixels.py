"""Pixels with named axes, and their conversion from and to NumPy and xarray arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from bmz.base.arrays import AnyArray, mirrored_values
from bmz.base.axes import IMAGE_AXES, LETTERS, SPACE
from bmz.base.values import dataclass
from bmz.image.info import UNKNOWN_AXIS, Header, ImageInfo
from bmz.image.inspect import info_from
from bmz.image.pixel_size import from_lengths

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Pixels:
    """An array with named axes, pixel size and channel names.

    It replaces ``xarray.DataArray`` inside bmz, because importing xarray takes longer than running
    a model on a small image. `to_xarray` converts it for the Python API, and ``np.asarray``
    returns the plain array.

    Parameters
    ----------
    array : one axis for each of `axes`
    axes : letters of ``tczyx``, or ``tile`` for the tiles of a sample
    pixel_um : pixel size in um by spatial axis, where known; entries for axes that the array does
        not have are dropped
    channel_names : one name per channel along c, or empty
    colour : whether the channels are those of an RGB image

    Raises
    ------
    ValueError
        The number of axes or channels of the array differs from the number of names.
    """

    array: AnyArray
    axes: tuple[str, ...]
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    colour: bool = False

    def __post_init__(self) -> None:
        if len(self.axes) != self.array.ndim or len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes {self.axes} do not name those of shape {self.array.shape}")
        if self.channel_names and len(self.channel_names) != self.sizes.get("c"):
            raise ValueError(f"{self.channel_names} do not name the channels of {self.sizes}")
        lengths = {a: um for a, um in self.pixel_um.items() if a in self.axes and a in SPACE}
        object.__setattr__(self, "pixel_um", lengths)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> AnyArray:  # noqa: FBT001  (NumPy's)
        """Return the array, for functions of NumPy."""
        return np.array(self.array, dtype, copy=copy)

    def inverted(self) -> Pixels:
        """Invert the intensities of each channel between its minimum and its maximum."""
        over = tuple(i for i, axis in enumerate(self.axes) if axis != "c")
        low, high = (end(self.array, axis=over, keepdims=True) for end in (np.min, np.max))
        return replace(self, array=mirrored_values(self.array, low, high))

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array."""
        return self.array.dtype

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each axis by its name, in the order of the axes."""
        return dict(zip(self.axes, self.array.shape, strict=True))

    def part(self, box: Mapping[str, slice | int]) -> Pixels:
        """Return a part of the pixels without copying it.

        Parameters
        ----------
        box : axis -> slice, or a number, which takes one position and drops the axis; axes without
            an entry are taken whole

        Raises
        ------
        ValueError
            An axis does not exist.
        """
        if strange := set(box) - set(self.axes):
            raise ValueError(f"there is no axis {sorted(strange)} in {self.axes}")
        places = tuple(box.get(axis, slice(None)) for axis in self.axes)
        axes = [axis for axis in self.axes if not isinstance(box.get(axis), int)]
        along_c = box.get("c", slice(None))
        names = self.channel_names[along_c] if isinstance(along_c, slice) else ()
        return replace(self, array=self.array[places], axes=tuple(axes), channel_names=names)

    def transposed(self, axes: Iterable[str]) -> Pixels:
        """Return the same pixels with all axes in another order, without copying them."""
        order = tuple(axes)
        places = [self.axes.index(axis) for axis in order]
        return replace(self, array=self.array.transpose(places), axes=order)

    def with_channel_axis(self) -> Pixels:
        """Return the same pixels with an axis c, which is inserted first if there is none."""
        if "c" in self.axes:
            return self
        return replace(self, array=self.array[np.newaxis], axes=("c", *self.axes))


def to_xarray(pixels: Pixels) -> xr.DataArray:
    """Return pixels as a DataArray, without copying them.

    Returns
    -------
    DataArray
        dims are the axes; coordinates of z, y, x are in um if the pixel size is known (the centre
        of the first pixel is 0), those of c are the channel names; ``attrs["colour"]`` is set for
        an RGB image
    """
    import xarray as xr  # here: importing it takes longer than running a model on a small image

    coords: dict[str, tuple[str, AnyArray, dict[str, str | float]]] = {
        axis: (axis, np.arange(pixels.sizes[axis]) * um, {"units": "um", "pixel_um": um})
        for axis, um in pixels.pixel_um.items()
    }
    if pixels.channel_names:
        coords["c"] = ("c", np.array(pixels.channel_names), {})
    attrs = {"colour": True} if pixels.colour else {}
    # without `fastpath`, xarray imports Dask if it is installed, to check whether this is a Dask
    # array
    variable = xr.Variable(pixels.axes, pixels.array, attrs, fastpath=True)
    return xr.DataArray(variable).assign_coords(coords)


def is_xarray(image: object) -> TypeGuard[xr.DataArray]:
    """Return whether `image` is a DataArray; if it is, xarray is already imported."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(image, xarray.DataArray)


def pixel_um_of(image: xr.DataArray) -> dict[str, float]:
    """Return the pixel size in um along those of z, y, x that have coordinates.

    An axis of one pixel has no step between coordinates: its pixel size is read from the
    attribute ``pixel_um`` of the coordinate.
    """
    return {a: um for a in SPACE if (um := _step(image, a)) is not None}


def _step(image: xr.DataArray, axis: str) -> float | None:
    if axis not in image.coords:
        return None
    coordinate = image.coords[axis]
    if coordinate.size <= 1:
        alone = coordinate.attrs.get("pixel_um")
        return None if alone is None else float(alone)
    values = coordinate.values
    return float(values[-1] - values[0]) / (len(values) - 1)


ArrayImage: TypeAlias = "AnyArray | xr.DataArray"

NAME = "array"
"""Name of an image that has none."""


def inspect_array(image: ArrayImage, *, axes: str | None = None) -> ImageInfo:
    """Return the metadata of an array, as `bmz.image.inspect.inspect_image` does for a file.

    Parameters
    ----------
    image : real-valued array; of a DataArray, the dims name the axes (t, c, z, y, x, or time and
        channel), the coordinates of z, y, x in um give the pixel size, those of c the channel
        names, and ``attrs["colour"]`` marks an RGB image
    axes : axes stated by the user, one letter per axis; they override the dims

    Raises
    ------
    PixelsRefused, AxesRefused
        The array is not real-valued, or does not have the stated axes.
    """
    name = image.name if is_xarray(image) else None
    return info_from(Path(NAME if name is None else str(name)), _header(image), axes=axes)


def _header(image: ArrayImage) -> Header:
    dtype = np.dtype(image.dtype).newbyteorder("=")
    if not is_xarray(image):
        return Header(UNKNOWN_AXIS * image.ndim, image.shape, dtype)
    letters = _letters([str(dim) for dim in image.dims])
    pairs = zip(image.dims, letters, strict=True)
    named = image.rename({dim: a for dim, a in pairs if a not in (UNKNOWN_AXIS, dim)})
    um = pixel_um_of(named)
    return Header(
        letters,
        tuple(image.shape),
        dtype,
        from_lengths(um, dict.fromkeys(um, "um"), "coordinates"),
        _channel_names(named),
        bool(image.attrs.get("colour", False)),
    )


def _letters(dims: list[str]) -> str:
    letters = ""
    for dim in dims:
        letter = LETTERS.get(dim, dim)
        known = letter in IMAGE_AXES and len(letter) == 1 and letter not in letters
        letters += letter if known else UNKNOWN_AXIS
    return letters


def _channel_names(image: xr.DataArray) -> tuple[str, ...]:
    if "c" not in image.coords or image.coords["c"].dtype.kind not in "UO":
        return ()
    return tuple(str(name) for name in np.atleast_1d(image.coords["c"].values))
