"""Read images and maps in parts, prepared for the network and for the label recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from itertools import product
from math import ceil, prod
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, LazyArray, mirrored_values
from bmz.base.axes import IMAGE_AXES, SPACE, Box, boxes, in_image_order
from bmz.base.files import reserve, whole_file
from bmz.base.values import dataclass
from bmz.image.region import FileSource
from bmz.plan.plan import Blocks, Plan
from bmz.predict.cutting import LazyTensor
from bmz.process.adapt import cast_within_range, from_layout, resized_part, take_channels, to_layout
from bmz.process.ops import Op
from bmz.process.streamed_steps import PartedReference, applied, percentiles_of, streamed_ops
from bmz.spec.model import TensorSpec


@dataclass(frozen=True)
class PreparedImage:
    """One plane or stack of an image as an input tensor, read and prepared part by part.

    Parameters
    ----------
    image : the open image
    at : position of the plane or stack along t and z
    channels : channel of the image for each channel of the tensor; -1 for zeros
    tensor : the input tensor
    size : size of the tensor along those of z, y, x that it has; the image is resized to it
    ops : declared steps, with the statistics of the whole plane
    tops : (c, 1, ...) values at which to clip each channel; None for no clipping
    turned : lower and upper bounds, (c, 1, ...) each, between which each channel is inverted; None
        for no inversion
    blocks : blocks in which statistics are computed
    """

    image: FileSource
    at: Mapping[str, int]
    channels: Sequence[int]
    tensor: TensorSpec
    size: Mapping[str, int]
    ops: tuple[Op, ...] = ()
    tops: AnyArray | None = None
    turned: tuple[AnyArray, AnyArray] | None = None
    blocks: Blocks = field(default_factory=Blocks)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor for the whole plane."""
        sizes = {"b": 1, "c": len(self.channels), **self.size}
        return tuple(sizes.get(letter, 1) for letter in self.tensor.letters)

    def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
        """Read and prepare the part within `box`, one slice per axis of the tensor."""
        sides = dict(zip(self.tensor.letters, box, strict=True))
        laid = self._laid({axis: sides[axis] for axis in self.size})
        prepared = applied(self.ops, laid, self.tensor.letters)
        rest = tuple(slice(None) if a in SPACE else sides[a] for a in self.tensor.letters)
        return prepared[rest]

    def parts(self) -> Iterator[AnyArray]:
        """Iterate over the plane box by box, as passed to the declared steps."""
        shrinks = min(n / self._image_size()[axis] for axis, n in self.size.items())
        return self._parts(list(_boxes(self.size, self.blocks, min(shrinks, 1.0))), self._laid)

    def expect(self, box: tuple[slice, ...]) -> None:
        """Start loading the part within `box`, one slice per axis of the tensor."""
        sides = dict(zip(self.tensor.letters, box, strict=True))
        self._expect({axis: sides[axis] for axis in self.size})

    def clipped(self, percentile: float | None) -> PreparedImage:
        """Clip each channel at a percentile of the whole plane, before anything else.

        This matches `bmz.process.adapt.clip_channels`; None clips nothing.
        """
        if percentile is None:
            return self
        (tops,) = self._percentiles(percentile)
        return replace(self, tops=tops)

    def inverted(self) -> PreparedImage:
        """Invert each channel of the whole plane, after clipping.

        This matches `bmz.process.adapt.invert_channels`.
        """
        low, high = self._percentiles(0.0, 100.0)
        return replace(self, turned=(low, high))

    def _percentiles(self, *which: float) -> list[FloatArray]:
        sizes = self._image_size()

        def raw() -> Iterator[AnyArray]:
            return self._parts(list(_boxes(sizes, self.blocks)), self.taken)

        space = "".join(sizes)
        return percentiles_of(raw, f"c{space}", space, which, lower=True)

    def with_steps(self, references: Mapping[str, PartedReference]) -> PreparedImage:
        """Compute the statistics of the declared steps, and apply the steps to all parts.

        Parameters
        ----------
        references : every input of the network before any declared step, by id

        Raises
        ------
        StepNotStreamed
            A step needs more than statistics of the whole plane.
        """
        letters = self.tensor.letters
        ops = streamed_ops(self.tensor.steps, self.parts, letters, references)
        return replace(self, ops=tuple(ops))

    def elsewhere(self) -> Callable[[FileSource], PreparedImage]:
        """Return a function that prepares the image in another process, which opens it itself."""
        return partial(
            PreparedImage,
            at=self.at,
            channels=self.channels,
            tensor=self.tensor,
            size=self.size,
            ops=self.ops,
            tops=self.tops,
            turned=self.turned,
            blocks=self.blocks,
        )

    def parted(self) -> LazyTensor:
        """Return the image as an input of `bmz.predict.tiles.run_tiles`."""
        return LazyTensor(self, self.tensor.letters)

    def _parts(
        self, boxes: Sequence[Mapping[str, slice]], read: Callable[[Mapping[str, slice]], AnyArray]
    ) -> Iterator[AnyArray]:
        """Read box by box, while the next box is being loaded."""
        for number, sides in enumerate(boxes):
            for later in boxes[number + 1 : number + 2]:
                self._expect(later)
            yield read(sides)

    def _expect(self, sides: Mapping[str, slice]) -> None:
        old = self._image_size()
        box = {axis: slice(at, at + 1) for axis, at in self.at.items()}
        for axis, side in sides.items():
            start, stop, _ = side.indices(self.size[axis])
            factor = old[axis] / self.size[axis]
            box[axis] = slice(int(start * factor), max(ceil(stop * factor), 1))
        self.image.expect(box)

    def _image_size(self) -> dict[str, int]:
        return {axis: self.image.info.sizes[axis] for axis in self.size}

    def _laid(self, sides: Mapping[str, slice]) -> AnyArray:
        laid = to_layout(self._resized(sides), f"c{''.join(self.size)}", self.tensor.letters)
        return cast_within_range(laid, self.tensor.dtype)

    def _resized(self, sides: Mapping[str, slice]) -> AnyArray:
        old = self._image_size()
        if old == self.size:
            return self.taken(sides)
        return resized_part(
            lambda region: self.taken(dict(zip(self.size, region, strict=True))),
            list(old.values()),
            list(self.size.values()),
            tuple(sides[axis] for axis in self.size),
        )

    def taken(self, sides: Mapping[str, slice]) -> AnyArray:
        """Read a part along (z,) y and x of the channels of the tensor, as (c, (z,) y, x)."""
        box = {axis: slice(at, at + 1) for axis, at in self.at.items()} | dict(sides)
        region = self.image.region(box)
        pixels, axes = region.array, region.axes
        positions = [i for i, axis in enumerate(axes) if axis not in self.at]
        alone = pixels.reshape([pixels.shape[i] for i in positions])
        stacked = alone if "c" in axes else alone[None]
        taken = take_channels(stacked, self.channels)
        if self.tops is not None:
            taken = np.minimum(taken, self.tops.astype(taken.dtype))
        return taken if self.turned is None else mirrored_values(taken, *self.turned)


def prepared_inputs(
    image: FileSource, at: Mapping[str, int], plan: Plan, tensors: Sequence[TensorSpec]
) -> list[PreparedImage]:
    """Prepare a plane or stack for each input of a network.

    Parameters
    ----------
    at : position along t and z
    tensors : the inputs to fill, in the order of the plan's channels

    Raises
    ------
    StepNotStreamed
        A step needs more than statistics of the whole plane.
    """
    taken = [
        PreparedImage(image, at, channels, tensor, plan.shape, blocks=plan.blocks).clipped(
            plan.clip
        )
        for tensor, channels in zip(tensors, plan.channels, strict=True)
    ]
    taken = [one.inverted() for one in taken] if plan.invert else taken
    references = {one.tensor.id: (one.parts, one.tensor.letters) for one in taken}
    return [one.with_steps(references) for one in taken]


def _boxes(
    sizes: Mapping[str, int], blocks: Blocks, share: float = 1.0
) -> Iterator[dict[str, slice]]:
    """Iterate over boxes that include all planes, with sides of a share of the usual length."""
    side = max(int(blocks.side_for(sizes.get("z", 1)) * share), 1)
    for box in boxes(tuple(sizes.values()), (*sizes.values(), side, side)[-len(sizes) :]):
        yield dict(zip(sizes, box, strict=True))


def map_parts(array: LazyArray, letters: str, blocks: Blocks) -> Iterator[AnyArray]:
    """Iterate box by box over an output of a network that is stored on disk.

    Parameters
    ----------
    array : array with the axes of the output
    letters : letters of these axes
    blocks : sizes of the boxes
    """
    sizes = dict(zip(letters, array.shape, strict=True))
    space = {axis: sizes[axis] for axis in SPACE if axis in sizes}
    for sides in _boxes(space, blocks):
        box = tuple(sides.get(letter, slice(None)) for letter in letters)
        yield np.asarray(array[box])


STRIP_PX = 128
"""Number of rows of a map read at a time if more channels are read than requested."""


@dataclass(frozen=True)
class StoredMap:
    """An output of a network on disk, as the map that a label recipe reads part by part.

    Parameters
    ----------
    array : array with the axes of the output
    letters : letters of these axes
    ops : declared steps that compute the map, each from one value or one vector at a time
    """

    array: LazyArray
    letters: str
    ops: tuple[Op, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the map: c, (z,) y, x."""
        sizes = {"c": 1, **dict(zip(self.letters, self.array.shape, strict=True))}
        return tuple(sizes[axis] for axis in IMAGE_AXES if axis in sizes)

    def __getitem__(self, box: Box) -> AnyArray:
        """Read a part of the map (c, (z,) y, x), given one slice per axis.

        If only a few channels are requested but the declared steps need all of them, a few rows are
        read at a time.
        """
        channels, *beyond, y, x = box
        rows, count = range(*y.indices(self.shape[-2])), self.shape[0]
        few = len(range(*channels.indices(count))) <= count / 2  # else copies would take more
        if not self.ops or not few or len(rows) <= STRIP_PX:
            return self._read(box)
        strips = [rows[top : top + STRIP_PX] for top in range(0, len(rows), STRIP_PX)]
        sides = (slice(strip.start, strip.stop) for strip in strips)
        # copies, because a view would keep all channels
        read = [self._read((channels, *beyond, side, x)).copy() for side in sides]
        return np.concatenate(read, -2)

    def _read(self, box: Box) -> AnyArray:
        channels, *space = box
        names = [axis for axis in SPACE if axis in self.letters]
        sides = dict(zip(names, space, strict=True))
        if not self.ops and "c" in self.letters:  # steps may need all channels
            sides, channels = {**sides, "c": channels}, slice(None)
        read = tuple(sides.get(letter, slice(None)) for letter in self.letters)
        part = applied(self.ops, np.asarray(self.array[read]), self.letters)
        picked: AnyArray = from_layout(part, self.letters)[0][channels]
        return picked


def keep_raw(maps: LazyArray, file: Path, blocks: Blocks) -> None:
    """Write the map of a plane or stack as ``.npy``, float32; the file appears when complete."""
    side = blocks.side_for(prod(maps.shape[1:-2]))
    with whole_file(file) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.dtype(np.float32), maps.shape)
        reserve(temporary, temporary.stat().st_size)
        for box in boxes(maps.shape[1:], (*maps.shape[1:-2], side, side)):
            array[(slice(None), *box)] = np.asarray(maps[(slice(None), *box)])
        array.flush()


@dataclass(frozen=True)
class RawStack:
    """The maps of all planes or stacks of an image.

    Parameters
    ----------
    maps : (c, (z,) y, x) float32, or the file that `keep_raw` wrote; one for each position along
        the axes of `loop`, the last axis varying fastest
    loop : number of positions along t and z, if the model runs once per position
    space : axes of each map after its channels, ``yx`` or ``zyx``
    """

    maps: Sequence[AnyArray | Path]
    loop: Mapping[str, int]
    space: str

    @property
    def axes(self) -> str:
        """One letter per axis of the whole image, in the order of images."""
        return in_image_order((*self.loop, "c", *self.space))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole image."""
        sizes = dict(zip("c" + self.space, self._map(0).shape, strict=True)) | dict(self.loop)
        return tuple(sizes[axis] for axis in self.axes)

    def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
        """Return a part of the whole, given one slice per axis."""
        sides = dict(zip(self.axes, box, strict=True))
        ranges = [range(*sides[axis].indices(n)) for axis, n in self.loop.items()]
        inner = tuple(sides[axis] for axis in "c" + self.space)
        counts = tuple(self.loop.values())
        numbers = [int(np.ravel_multi_index(at, counts)) if at else 0 for at in product(*ranges)]
        regions = [self._map(number)[inner] for number in numbers]
        stacked = np.stack(regions).reshape(*map(len, ranges), *regions[0].shape)
        laid = [*self.loop, "c", *self.space]
        return stacked.transpose([laid.index(axis) for axis in self.axes])

    def _map(self, number: int) -> AnyArray:
        held = self.maps[number]
        if not isinstance(held, Path):
            return held
        array: AnyArray = np.load(held, mmap_mode="r", allow_pickle=False)
        return array
