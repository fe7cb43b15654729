"""Images of a microscope's file as a library has them open."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.image.npy import Stored

COLOURS = 3

IN_ORDER = "TCZYXS"
"""Axes as all scenes have them; others come first."""


@dataclass(frozen=True)
class Scene:
    """One image of a file.

    Parameters
    ----------
    axes : a letter for each axis of `stored`: T, C, Z, Y, X, S for the samples of a colour, and
        others for what cannot be told in ours
    stored : gives the pixels of regions
    um : length of a pixel along z, y and x, um; those that are not stated are left out
    channel_names : one for each channel, or none
    """

    axes: str
    stored: Stored
    um: Mapping[str, float] = field(default_factory=dict)
    channel_names: Sequence[str] = ()


class Scenes(Protocol):
    """All images of a file that is open."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the images, in the order of the file."""

    def scene(self, number: int, /) -> Scene:
        """Give an image by its number; raises what the library raises."""


Opener = Callable[[Path], AbstractContextManager[Scenes]]
"""Opens a file, and closes it behind the images; raises what the library raises."""


class Planes:
    """A stack whose planes are read one by one, when a region touches them.

    Parameters
    ----------
    leading : length of each axis before those of a plane
    plane : shape of a plane, with the samples of a colour behind it
    dtype : of the pixels
    read : gives the plane at an index along the leading axes
    """

    def __init__(
        self,
        leading: Sequence[int],
        plane: Sequence[int],
        dtype: np.dtype[Any],
        read: Callable[[tuple[int, ...]], AnyArray],
    ) -> None:
        self.shape: tuple[int, ...] = (*leading, *plane)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._leading, self._read = len(leading), read

    def __getitem__(self, box: Box, /) -> AnyArray:
        lead, within = box[: self._leading], box[self._leading :]
        out = np.empty([s.stop - s.start for s in box], self.dtype)
        for place in np.ndindex(*out.shape[: self._leading]):
            index = tuple(i + s.start for i, s in zip(place, lead, strict=True))
            out[place] = self._read(index)[within]
        return out


def stated_um(lengths: Mapping[str, float | None], um_a_unit: float) -> dict[str, float]:
    """Turn lengths into um, and leave out those by which a library says that it knows none.

    They are None, 0, and what is not finite.
    """
    known = {a: float(n) * um_a_unit for a, n in lengths.items() if n is not None}
    return {axis: um for axis, um in known.items() if math.isfinite(um) and um > 0}
