"""Assemble the outputs of tiles: their positions in the image, their blending and their storage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import override

from bmz.base.arrays import AnyArray, FloatArray, TensorPlace
from bmz.base.axes import Box
from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file
from bmz.base.values import dataclass
from bmz.plan.tiling import AxisTiling, Kept, OutputRule, Tiling
from bmz.predict.backend import checked_count
from bmz.predict.cutting import TileJob

Shares = Sequence[FloatArray | None]
"""Per axis of an output, the share of a tile in each pixel; None if it has all of each pixel."""


def axis_shares(along: AxisTiling, output: OutputRule) -> list[FloatArray | None]:
    """Return each tile's share in each of its kept pixels, along one axis.

    The shares of all tiles add up to 1 in every pixel. The weights in a plane are products of
    those along y and x, and so are the shares.

    Returns
    -------
    list of (pixels,) float32
        None for tiles that are cut instead of averaged
    """
    blend, regions = along.blend, along.kept(output)
    if blend is None or len(regions) == 1:
        return [None] * len(regions)
    spacing = float(Fraction(output.spacing.get(along.axis, 1)))
    lost = output.lost.get(along.axis, 0)
    total = np.zeros(along.image_output(output))
    weights = []
    for region in regions:
        at = (np.arange(region.source.start, region.source.stop) + 0.5) * spacing + lost
        inside = np.minimum(at, along.tile - at)
        weights.append(blend.weights(inside - lost, along.overlap - 2 * lost))
        total[region.target] += weights[-1]
    return [
        (weight / total[region.target]).astype(np.float32)
        for weight, region in zip(weights, regions, strict=True)
    ]


def weighted(part: AnyArray, shares: Shares) -> FloatArray:
    """Multiply a part of the output of a tile by its share in each pixel.

    Parameters
    ----------
    part : array with one axis per entry of `shares`

    Returns
    -------
    ndarray
        with the shape of `part`, float32 or wider
    """
    result = part.astype(np.result_type(part.dtype, np.float32))
    for axis, share in enumerate(shares):
        if share is not None:
            result *= share.reshape([-1 if i == axis else 1 for i in range(part.ndim)])
    return result


class OutputShapeDiffers(CouldNotTell):
    """The network returns a shape that differs from its description."""

    def __init__(self, number: int, expected: str, actual: Sequence[int]) -> None:
        super().__init__(
            f"output {number} of the network has shape {tuple(actual)}, but its description "
            f"states {expected}",
            hint="the description is at fault; tell the model's authors",
            code="predict.output-shape",
        )


class NotTileable(CouldNotTell):
    """An output describes the whole image, but the image needs several tiles."""

    def __init__(self, rule: OutputRule, along: AxisTiling) -> None:
        super().__init__(
            f"the output with axes {rule.axes} has no axis {along.axis}, along which the image "
            f"needs {len(along.starts)} tiles of {along.tile} px",
            hint=f"use a larger --tile if the model takes one, or crop the image to {along.tile} "
            "px",
            code="predict.not-tileable",
        )


class Assembly(Protocol):
    """A destination that collects the outputs of tiles."""

    def missing(self) -> list[TileJob]:
        """Return the tiles that must still be run, in order."""

    def place(self, outputs: Sequence[AnyArray], jobs: Sequence[TileJob]) -> None:
        """Store the outputs of some tiles, one array per output."""


@dataclass(frozen=True)
class Places:
    """The part of each tile's output that is kept, and its position in the output of the image.

    Parameters
    ----------
    tiling : positions of the tiles
    outputs : geometry of each output relative to the input
    images : size of the axis ``b`` of the outputs

    Raises
    ------
    NotTileable
        An output lacks an axis that has several tiles.
    """

    tiling: Tiling
    outputs: Sequence[OutputRule]
    images: int

    def __post_init__(self) -> None:
        """Raise an error for outputs that cannot be assembled."""
        for rule in self.outputs:
            for along in self.tiling.axes:
                if along.axis not in rule.axes and len(along.starts) > 1:
                    raise NotTileable(rule, along)

    def jobs(self) -> list[TileJob]:
        """Return every tile of every image."""
        return [
            TileJob(i, position) for i in range(self.images) for position in self.tiling.positions()
        ]

    def check(
        self, arrays: Sequence[AnyArray], jobs: int, first: Sequence[Sequence[int]] | None
    ) -> None:
        """Raise an error if outputs of `jobs` tiles differ from the description in rank or size.

        Parameters
        ----------
        first : shapes of the outputs of the first tile; None if this is the first

        Raises
        ------
        OutputShapeDiffers
        """
        checked_count("outputs", expected=len(self.outputs), actual=len(arrays))
        for number, (rule, array) in enumerate(zip(self.outputs, arrays, strict=True)):
            sizes = {along.axis: along.tile_output(rule) for along in self.tiling.axes}
            sizes["b"] = jobs
            if first is not None and len(rule.axes) == array.ndim:
                # axes that are neither stacked nor tiled must be as in the first tile
                had = zip(rule.axes, first[number], strict=True)
                sizes = {axis: size for axis, size in had if axis not in sizes} | sizes
            expected = [sizes.get(axis) for axis in rule.axes]
            if len(expected) != array.ndim or any(
                size not in (None, actual)
                for size, actual in zip(expected, array.shape, strict=True)
            ):
                words = (f"{a}={n or 'any'}" for a, n in zip(rule.axes, expected, strict=True))
                raise OutputShapeDiffers(number, ", ".join(words), array.shape)

    def whole(self, number: int, tile: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of an output of the image, given its shape for a tile."""
        rule = self.outputs[number]
        sizes = {along.axis: along.image_output(rule) for along in self.tiling.axes}
        sizes["b"] = self.images
        return tuple(sizes.get(a, n) for a, n in zip(rule.axes, tile, strict=True))

    def averaged(self, dtype: DTypeLike) -> bool:
        """Return whether tiles of `dtype` are averaged; integer tiles are cut instead."""
        some = any(along.blend is not None for along in self.tiling.axes)
        return some and np.issubdtype(dtype, np.floating)

    def for_dtype(self, dtype: DTypeLike) -> Places:
        """Return the places for outputs of `dtype`; integers such as labels are not averaged."""
        if self.averaged(dtype) or all(along.blend is None for along in self.tiling.axes):
            return self
        axes = tuple(replace(along, blend=None) for along in self.tiling.axes)
        return replace(self, tiling=replace(self.tiling, axes=axes))

    def shares(self, number: int, job: TileJob) -> Shares:
        """Return the share of a tile in its kept part, along each axis of an output."""
        pairs = zip(self.tiling.axes, self._shares[number], job.position, strict=True)
        share_of = {along.axis: parts[at] for along, parts, at in pairs if parts}
        return [share_of.get(axis) for axis in self.outputs[number].axes]

    def of(self, number: int, i: int, job: TileJob) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the kept part of the output of tile `i` of a batch, and its target region."""
        pairs = zip(self.tiling.axes, self._kept[number], job.position, strict=True)
        regions = {along.axis: parts[at] for along, parts, at in pairs if parts}
        regions["b"] = Kept(slice(i, i + 1), slice(job.image, job.image + 1))
        whole = Kept(slice(None), slice(None))
        parts = [regions.get(axis, whole) for axis in self.outputs[number].axes]
        return tuple(part.source for part in parts), tuple(part.target for part in parts)

    @cached_property
    def _kept(self) -> list[list[tuple[Kept, ...]]]:
        return [[_kept(along, rule) for along in self.tiling.axes] for rule in self.outputs]

    @cached_property
    def _shares(self) -> list[list[list[FloatArray | None]]]:
        return [
            [axis_shares(a, rule) if a.axis in rule.axes else [] for a in self.tiling.axes]
            for rule in self.outputs
        ]


class Mosaic:
    """The outputs for the whole image in memory, filled tile by tile.

    Parameters
    ----------
    places : the kept part of each tile, and its position
    """

    def __init__(self, places: Places) -> None:
        self.arrays: list[AnyArray] = []
        self._places = places
        self._of: list[Places] = []
        self._averaged: list[bool] = []
        self._weighted: Callable[[Any, Shares], Any] = weighted

    def missing(self) -> list[TileJob]:
        """Return all tiles, since nothing remains from an earlier run."""
        return self._places.jobs()

    def place(self, outputs: Sequence[AnyArray], jobs: Sequence[TileJob]) -> None:
        """Copy the kept parts of the outputs of `jobs`.

        Raises
        ------
        OutputShapeDiffers
            Their rank or size differs from the description.
        """
        first = [array.shape for array in self.arrays] if self.arrays else None
        self._places.check(outputs, len(jobs), first)
        if not self.arrays:
            self._begin(outputs)
        for number, array in enumerate(outputs):
            places = self._of[number]
            for i, job in enumerate(jobs):
                source, target = places.of(number, i, job)
                if self._averaged[number]:
                    share = places.shares(number, job)
                    self.arrays[number][target] += self._weighted(array[source], share)
                else:
                    self.arrays[number][target] = array[source]

    def _begin(self, outputs: Sequence[AnyArray]) -> None:
        shapes, dtypes = self._sizes([array.dtype for array in outputs], outputs)
        fills = [np.zeros if averaged else np.empty for averaged in self._averaged]
        self.arrays = [
            fill(shape, dtype) for fill, shape, dtype in zip(fills, shapes, dtypes, strict=True)
        ]

    def _sizes(
        self, dtypes: Sequence[np.dtype[Any]], outputs: Sequence[AnyArray]
    ) -> tuple[list[tuple[int, ...]], list[np.dtype[Any]]]:
        """Return the shapes and dtypes of the maps, given the outputs of the first tiles."""
        self._of = [self._places.for_dtype(dtype) for dtype in dtypes]
        places = list(zip(self._of, dtypes, strict=True))
        self._averaged = [place.averaged(dtype) for place, dtype in places]
        shapes = [
            place.whole(number, outputs[number].shape) for number, (place, _) in enumerate(places)
        ]
        return shapes, [
            np.result_type(dtype, np.float32) if averaged else dtype
            for dtype, averaged in zip(dtypes, self._averaged, strict=True)
        ]


class TensorMosaic(Mosaic):
    """The outputs for the whole image on the network's device, if its memory is large enough.

    Tiles are averaged with the same arithmetic, and in the same order, as arrays are.

    Parameters
    ----------
    places : the kept part of each tile, and its position
    there : device that holds the outputs of tiles
    """

    def __init__(self, places: Places, there: TensorPlace) -> None:
        super().__init__(places)
        self.left = ""
        """Why the maps are in host memory after all, as a clause; empty if they are not."""
        self._there = there
        self._weighted = self._weighted_there

    @override
    def place(self, outputs: Sequence[Any], jobs: Sequence[TileJob]) -> None:
        """Copy the kept parts of the outputs of `jobs`; see `Mosaic`."""
        if not self.arrays:
            self._places.check(outputs, len(jobs), None)
            self._begin(outputs)
        if self.left:
            outputs = [self._there.get(tensor) for tensor in outputs]
        super().place(outputs, jobs)

    @override
    def _begin(self, outputs: Sequence[Any]) -> None:
        shapes, dtypes = self._sizes([dtype_of(tensor) for tensor in outputs], outputs)
        sizes = [prod(s) * d.itemsize for s, d in zip(shapes, dtypes, strict=True)]
        self.left = self._there.lacks(sum(sizes))
        if self.left:
            self._weighted = weighted
            super()._begin([np.empty(t.shape, dtype_of(t)) for t in outputs])
            return
        torch, device = self._there.torch, self._there.device
        self.arrays = [
            torch.zeros(shape, dtype=getattr(torch, dtype.name), device=device)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]

    def _weighted_there(self, part: Any, shares: Shares) -> Any:  # noqa: ANN401  (tensors)
        if part.dtype not in (self._there.torch.float32, self._there.torch.float64):
            part = part.float()
        for axis, share in enumerate(shares):
            if share is not None:
                wide = share.reshape([-1 if i == axis else 1 for i in range(part.ndim)])
                part = part * self._there.put(wide)
        return part


def dtype_of(tensor: Any) -> np.dtype[Any]:  # noqa: ANN401  (PyTorch is not imported here)
    """Return the NumPy dtype that corresponds to the dtype of a tensor."""
    return np.dtype(str(tensor.dtype).removeprefix("torch."))


def _kept(along: AxisTiling, rule: OutputRule) -> tuple[Kept, ...]:
    return along.kept(rule) if along.axis in rule.axes else ()


@dataclass(frozen=True)
class TileStore:
    """Store the kept part of each tile, for one output, in a file per tile.

    A file gets its name only when it is complete, so a run may be killed at any time, and several
    processes may fill one store. The files are ``.npy``, so that parts can be memory-mapped.

    Parameters
    ----------
    folder : existing folder for the files
    places : the kept part of each tile, and its position
    number : index of the output
    only : numbers of the tiles to store; None for all

    Raises
    ------
    ValueError
        The tiles belong to more than one image along ``b``.
    """

    folder: Path
    places: Places
    number: int
    only: Collection[int] | None = None

    def __post_init__(self) -> None:
        """Raise an error for several images."""
        if self.places.images != 1:
            raise ValueError(f"tiles of {self.places.images} images do not go into one store")

    def missing(self) -> list[TileJob]:
        """Return the tiles that have no file yet, in order."""
        jobs = self.places.jobs()
        return [jobs[number] for number in self.missing_numbers()]

    def missing_numbers(self) -> list[int]:
        """Return the numbers of the tiles that have no file yet, in order."""
        names = {path.name for path in self.folder.iterdir()}
        numbers = range(self.places.tiling.count) if self.only is None else sorted(self.only)
        return [number for number in numbers if _name(number) not in names]

    def place(self, outputs: Sequence[AnyArray], jobs: Sequence[TileJob]) -> None:
        """Write the kept parts of the outputs of `jobs`.

        Raises
        ------
        OutputShapeDiffers
            Their rank or size differs from the description.
        """
        self.places.check(outputs, len(jobs), None)
        for i, job in enumerate(jobs):
            array = outputs[self.number]
            source, _ = self.places.for_dtype(array.dtype).of(self.number, i, job)
            region = np.ascontiguousarray(array[source])
            with whole_file(self.folder / _name(self._number_of(job))) as temporary:
                np.save(temporary, region, allow_pickle=False)

    def stored(self) -> StoredTiles:
        """Return the output of the whole image, once all tiles are stored."""
        return StoredTiles(self)

    def _number_of(self, job: TileJob) -> int:
        counts = [len(along.starts) for along in self.places.tiling.axes]
        return int(np.ravel_multi_index(job.position, counts)) if counts else 0

    def read(self, job: TileJob, box: Box = ()) -> AnyArray:
        """Read a region of the stored part of a tile, or the whole part."""
        path = self.folder / _name(self._number_of(job))
        tile: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
        return tile[box]


class StoredTiles:
    """An output of the whole image, whose regions are read from the files of tiles.

    Parameters
    ----------
    store : complete store of tiles
    """

    def __init__(self, store: TileStore) -> None:
        self._store = store
        first = store.read(store.places.jobs()[0])
        self._places = store.places.for_dtype(first.dtype)
        self._averaged = self._places.averaged(first.dtype)
        self.dtype = np.result_type(first.dtype, np.float32) if self._averaged else first.dtype
        self.shape = store.places.whole(store.number, first.shape)
        """Shape along the axes of the output."""

    def tiles(self) -> Iterator[AnyArray]:
        """Yield the stored part of each tile in turn; together they contain every pixel once."""
        return map(self._store.read, self._store.places.jobs())

    def __getitem__(self, box: Box) -> AnyArray:
        """Read a region: one slice per axis of the output, without a step."""
        sides = [slice(*side.indices(n)) for side, n in zip(box, self.shape, strict=True)]
        size = [max(side.stop - side.start, 0) for side in sides]
        part = np.zeros(size, self.dtype) if self._averaged else np.empty(size, self.dtype)
        for job, spans in self._within(sides):
            in_tile, in_box = [], []
            for side, span in zip(sides, spans, strict=True):
                start, stop = max(side.start, span.start), min(side.stop, span.stop)
                in_tile.append(slice(start - span.start, stop - span.start))
                in_box.append(slice(start - side.start, stop - side.start))
            values = self._store.read(job, tuple(in_tile))
            if self._averaged:
                shares = self._places.shares(self._store.number, job)
                cut = [None if s is None else s[at] for s, at in zip(shares, in_tile, strict=True)]
                part[tuple(in_box)] += weighted(values, cut)
            else:
                part[tuple(in_box)] = values
        return part

    def _within(self, sides: Sequence[slice]) -> list[tuple[TileJob, list[slice]]]:
        """Return the tiles that overlap the box, each with its position in the image."""
        places, number = self._places, self._store.number
        axes, tiling = places.outputs[number].axes, places.tiling
        choices = []
        for along in tiling.axes:
            regions = along.kept(places.outputs[number]) if along.axis in axes else ()
            side = sides[axes.index(along.axis)] if along.axis in axes else slice(0, 1)
            choices.append(_touching(regions, side))
        tiles = []
        for position in product(*choices):
            job = TileJob(0, position)
            _, target = places.of(number, 0, job)
            spans = [slice(*span.indices(n)) for span, n in zip(target, self.shape, strict=True)]
            tiles.append((job, spans))
        return tiles


def _touching(regions: Sequence[Kept], side: slice) -> list[int]:
    # along an axis that the output lacks, there is only one tile
    if not regions:
        return [0]
    return [
        number
        for number, region in enumerate(regions)
        if region.target.start < side.stop and region.target.stop > side.start
    ]


def _name(number: int) -> str:
    return f"tile-{number:06d}.npy"
