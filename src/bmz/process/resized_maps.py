"""Maps of a network on the grid of the image, resized where and when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray


class _Along(NamedTuple):
    """Between which two entries each place lies along an axis, and how near the second is."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: FloatArray


@dataclass(frozen=True)
class ResizedMaps:
    """A map of a resized image, as it would lie on the image: by linear interpolation.

    Beyond the outermost entries the map goes on as they are. Nothing is smoothed where it shrinks.
    Source: ``cv2.resize`` with ``INTER_LINEAR``, by which cellpose 3.1.1.3 brings flows and cell
    probability to the image (``transforms.resize_image``, called by ``models._run_net``).

    Parameters
    ----------
    maps : (c, (z,) y, x), an array or one of which parts are read
    network, image : spatial sizes of the resized image and of the image, px
    grid : spacing of the map in pixels of what the network was given, one number a spatial axis;
        the same grid, in pixels of the image, is kept
    lengths : for each channel, whether it holds lengths in px, which grow with the image
    """

    maps: Any
    network: tuple[int, ...]
    image: tuple[int, ...]
    grid: tuple[int, ...]
    lengths: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the map: c, (z,) y, x; a last entry may lie beyond the image in part."""
        sizes = (-(-n // step) for n, step in zip(self.image, self.grid, strict=True))
        return (self.maps.shape[0], *sizes)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def factor(self) -> float:
        """How many px of the image are one of the resized image, along y."""
        return self.image[-2] / self.network[-2]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:  # noqa: ANN401, FBT001  (as NumPy asks)
        """Give the whole map."""
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, box: Any) -> AnyArray:  # noqa: ANN401  (as arrays have it)
        """Read a part of (c, (z,) y, x): channels as one number or a slice, one slice an axis."""
        channel, *space = _complete(box, self.ndim)
        if all(isinstance(places, np.ndarray) for places in space):
            return self._grown(self._at(channel, space), channel)
        alongs = [
            self._along(axis, np.arange(*side.indices(n)))
            for axis, (side, n) in enumerate(zip(space, self.shape[1:], strict=True))
        ]
        if any(along.low.size == 0 for along in alongs):
            many = [len(range(self.shape[0])[channel])] if isinstance(channel, slice) else []
            return np.zeros([*many, *(along.low.size for along in alongs)], np.float32)
        firsts = [int(along.low.min()) for along in alongs]
        inside = (
            slice(first, int(along.high.max()) + 1)
            for first, along in zip(firsts, alongs, strict=True)
        )
        part = np.asarray(self.maps[(channel, *inside)], np.float32)
        before = part.ndim - len(alongs)
        for axis, (first, along) in enumerate(zip(firsts, alongs, strict=True)):
            share = along.share.reshape([-1 if i == axis else 1 for i in range(len(alongs))])
            low, high = (
                np.take(part, end - first, before + axis) for end in (along.low, along.high)
            )
            part = _between(low, high, share)
        return self._grown(part, channel)

    def __setitem__(self, box: Any, values: Any) -> None:  # noqa: ANN401  (as arrays have it)
        """Refuse: a map is only read."""
        raise TypeError("a map of a network is not written to")

    def _at(self, channel: Any, places: Sequence[NDArray[np.intp]]) -> FloatArray:  # noqa: ANN401  (a number or a slice)
        """Give the values at single entries, the same bit by bit as of the whole map."""
        alongs = [self._along(axis, at) for axis, at in enumerate(places)]

        def corner(axis: int, chosen: tuple[NDArray[np.intp], ...]) -> FloatArray:
            if axis < 0:
                return np.asarray(self.maps[(channel, *chosen)], np.float32)
            low, high, share = alongs[axis]
            return _between(
                corner(axis - 1, (low, *chosen)), corner(axis - 1, (high, *chosen)), share
            )

        return corner(len(alongs) - 1, ())

    def _along(self, axis: int, entries: NDArray[np.intp]) -> _Along:
        # pixels are squares: the middle of the first one lies at 0.5
        step = self.network[axis] / self.image[axis]
        last = self.maps.shape[1 + axis] - 1
        at = np.clip((entries + 0.5) * step - 0.5, 0, last)
        low = np.floor(at).astype(np.intp)
        return _Along(low, np.minimum(low + 1, last), (at - low).astype(np.float32))

    def _grown(self, part: FloatArray, channel: Any) -> FloatArray:  # noqa: ANN401  (a number or a slice)
        grown = np.array(self.lengths)[channel]
        if not grown.any():
            return part
        part[grown] *= np.float32(self.factor)
        return part


def _between(low: FloatArray, high: FloatArray, share: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):  # entries may be infinite, and are no more than that
        return low + (high - low) * share


def _complete(box: Any, axes: int) -> Sequence[Any]:  # noqa: ANN401  (as arrays have it)
    """Give one entry an axis, where an ellipsis stands for some and the last are left out."""
    parts = list(box) if isinstance(box, tuple) else [box]
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (axes - len(parts) + 1)
    return [*parts, *[slice(None)] * (axes - len(parts))]
