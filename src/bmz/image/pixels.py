"""Pixels with named axes: the type of images, labels and maps inside bmz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE


@dataclass(frozen=True, eq=False)
class Pixels:
    """An array, the names of its axes, and what is known of its grid.

    It holds what bmz needs of an ``xarray.DataArray``, which takes longer to import than a small
    image takes to be run; `bmz.image.arrays` turns it into one for the Python API. An array of
    NumPy can be had of it by ``np.asarray``.

    Parameters
    ----------
    array : one axis for each of `axes`
    axes : letters of ``tczyx``, or ``tile`` for the tiles of a sample
    pixel_um : length of a pixel by axis of space, um, where it is known; those of axes that the
        array does not have are left out
    channel_names : one for each channel along c, or none
    colour : the channels are those of a photograph

    Raises
    ------
    ValueError
        The array has more or fewer axes than are named, or more or fewer channels.
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
        """Give the array, for functions of NumPy."""
        return np.array(self.array, dtype, copy=copy)

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
        """Give a part without copying it.

        Parameters
        ----------
        box : by axis; a number takes one position and drops the axis; axes without an entry are
            taken whole

        Raises
        ------
        ValueError
            An axis is not there.
        """
        if strange := set(box) - set(self.axes):
            raise ValueError(f"there is no axis {sorted(strange)} in {self.axes}")
        places = tuple(box.get(axis, slice(None)) for axis in self.axes)
        axes = [axis for axis in self.axes if not isinstance(box.get(axis), int)]
        along_c = box.get("c", slice(None))
        names = self.channel_names[along_c] if isinstance(along_c, slice) else ()
        return replace(self, array=self.array[places], axes=tuple(axes), channel_names=names)

    def transposed(self, axes: Iterable[str]) -> Pixels:
        """Give the same pixels with all axes in another order, without copying them."""
        order = tuple(axes)
        places = [self.axes.index(axis) for axis in order]
        return replace(self, array=self.array.transpose(places), axes=order)

    def with_channel_axis(self) -> Pixels:
        """Give the same pixels with an axis c, put before all others where there is none."""
        if "c" in self.axes:
            return self
        return replace(self, array=self.array[np.newaxis], axes=("c", *self.axes))
