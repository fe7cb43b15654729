"""An image and a map that are read in parts: prepared for the network, and for the labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.boxes import boxes
from bmz.image.region import OpenImage
from bmz.predict.cutting import Parted
from bmz.process.adapt import cast_within_range, from_layout, take_channels, to_layout
from bmz.process.ops import Op
from bmz.process.streamed_steps import applied, percentiles_of, streamed_ops
from bmz.spec.model import TensorSpec

SIDE_PX = 2048
"""Of the boxes in which statistics are taken: chunks are read once, however wide the image is."""


@dataclass(frozen=True)
class PreparedImage:
    """One plane of an image as the tensor of a network, read and prepared part by part.

    Parameters
    ----------
    image : open
    at : position along t and z that is run
    channels : of the image, for each of the tensor; -1 is zeros
    tensor : that is fed
    ops : declared steps, with the statistics of the whole plane
    tops : (c, 1, 1) above which values are cut; None for no cut
    """

    image: OpenImage
    at: Mapping[str, int]
    channels: Sequence[int]
    tensor: TensorSpec
    ops: tuple[Op, ...] = ()
    tops: AnyArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the tensor for the whole plane."""
        sizes = {"b": 1, "c": len(self.channels), **self._plane()}
        return tuple(sizes.get(letter, 1) for letter in self.tensor.letters)

    def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
        """Read and prepare the part within `box`, one slice an axis of the tensor."""
        sides = dict(zip(self.tensor.letters, box, strict=True))
        laid = self._laid({axis: sides[axis] for axis in "yx"})
        prepared = applied(self.ops, laid, self.tensor.letters)
        rest = tuple(slice(None) if a in "yx" else sides[a] for a in self.tensor.letters)
        return prepared[rest]

    def parts(self) -> Iterator[AnyArray]:
        """Give the plane box by box, as the declared steps get it."""
        return (self._laid(sides) for sides in self._boxes())

    def clipped(self, percentile: float | None) -> PreparedImage:
        """Cut the values of each channel at a percentile of the whole plane, before anything else.

        As `bmz.process.adapt.clip_channels`; None cuts nothing.
        """
        if percentile is None:
            return self
        raw = lambda: (self._taken(sides) for sides in self._boxes())  # noqa: E731
        (tops,) = percentiles_of(raw, "cyx", "yx", [percentile], lower=True)
        return replace(self, tops=tops)

    def with_steps(self) -> PreparedImage:
        """Take the statistics of the declared steps, and prepare parts from now on.

        Raises
        ------
        StepNotStreamed
            A step needs more than statistics of the whole plane.
        """
        ops = streamed_ops(self.tensor.steps, self.parts, self.tensor.letters)
        return replace(self, ops=tuple(ops))

    def parted(self) -> Parted:
        """Give it as an input of `bmz.predict.tiles.run_tiles`."""
        return Parted(self, self.tensor.letters)

    def _plane(self) -> dict[str, int]:
        return {axis: self.image.info.sizes[axis] for axis in "yx"}

    def _boxes(self) -> Iterator[dict[str, slice]]:
        plane = self._plane()
        for y, x in boxes((plane["y"], plane["x"]), (SIDE_PX, SIDE_PX)):
            yield {"y": y, "x": x}

    def _laid(self, sides: Mapping[str, slice]) -> AnyArray:
        laid = to_layout(self._taken(sides), "cyx", self.tensor.letters)
        return cast_within_range(laid, self.tensor.dtype)

    def _taken(self, sides: Mapping[str, slice]) -> AnyArray:
        box = {axis: slice(at, at + 1) for axis, at in self.at.items()} | dict(sides)
        pixels, axes = self.image.pixels(box)
        kept = [i for i, axis in enumerate(axes) if axis in "cyx"]
        plane = pixels.transpose([*(i for i in range(len(axes)) if i not in kept), *kept])
        plane = plane.reshape([pixels.shape[i] for i in kept])
        stacked = plane if "c" in axes else plane[None]
        taken = take_channels(stacked, self.channels)
        return taken if self.tops is None else np.minimum(taken, self.tops.astype(taken.dtype))


@dataclass(frozen=True)
class StoredMap:
    """An output of a network on the disk as the map that a label recipe reads, part by part.

    Parameters
    ----------
    array : with the axes of the output
    letters : of these axes
    ops : declared steps that give the map, each of one value or one vector at a time
    """

    array: Any
    letters: str
    ops: tuple[Op, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the map: c, y, x."""
        sizes = dict(zip(self.letters, self.array.shape, strict=True))
        return (sizes.get("c", 1), sizes["y"], sizes["x"])

    def __getitem__(self, box: tuple[Any, ...]) -> AnyArray:
        """Read a part of (c, y, x); the first may be one channel, an ellipsis stand for axes."""
        channel, y, x = (slice(None), *box[1:]) if box[0] is Ellipsis else self._three(box)
        sides = {"y": y, "x": x}
        whole = tuple(sides.get(letter, slice(None)) for letter in self.letters)
        part = applied(self.ops, np.asarray(self.array[whole]), self.letters)
        picked: AnyArray = from_layout(part, self.letters)[0][channel]
        return picked

    def __setitem__(self, box: Any, values: Any) -> None:  # noqa: ANN401  (as arrays have it)
        """Refuse: a map is only read."""
        raise TypeError("a map of a network is not written to")

    @staticmethod
    def _three(box: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        # (channel, ..., y, x) may hold an ellipsis for the axes between
        sides = [side for side in box if side is not Ellipsis]
        channel, y, x = sides
        return channel, y, x
