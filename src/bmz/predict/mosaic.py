"""Where the outputs of tiles go, and the outputs of the whole image put together of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.errors import CouldNotTell
from bmz.plan.axis_tiling import AxisTiling, Kept, OutputRule
from bmz.plan.tiling import Tiling
from bmz.predict.backend import checked_count
from bmz.predict.blending import Shares, axis_shares, weighted
from bmz.predict.cutting import Job


class OutputShapeDiffers(CouldNotTell):
    """The network returns another shape than its description promises."""

    def __init__(self, number: int, wanted: str, found: Sequence[int]) -> None:
        super().__init__(
            f"output {number} of the network has shape {tuple(found)}, "
            f"but its description promises {wanted}",
            hint="the description is at fault; tell the model's authors",
            code="predict.output-shape",
        )


class NotTileable(CouldNotTell):
    """An output is about the whole image, but the image needs several tiles."""

    def __init__(self, rule: OutputRule, along: AxisTiling) -> None:
        super().__init__(
            f"the output with axes {rule.axes} has no axis {along.axis}, along which the image "
            f"needs {len(along.starts)} tiles of {along.tile} px",
            hint=f"a larger --tile where the model takes one, or crop it to {along.tile} px",
            code="predict.not-tileable",
        )


class Assembly(Protocol):
    """What takes the outputs of tiles as they come."""

    def missing(self) -> list[Job]:
        """Give the tiles that are still to be run, in order."""

    def place(self, found: Sequence[AnyArray], jobs: Sequence[Job]) -> None:
        """Take the outputs for some tiles, one array an output."""


@dataclass(frozen=True)
class Places:
    """Which part of the output of a tile is kept, and where in that of the image it lies.

    Parameters
    ----------
    tiling : where the tiles lie
    outputs : how each output lies on the input
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
        """Refuse what cannot be put together."""
        for rule in self.outputs:
            for along in self.tiling.axes:
                if along.axis not in rule.axes and len(along.starts) > 1:
                    raise NotTileable(rule, along)

    def jobs(self) -> list[Job]:
        """Give every tile of every image."""
        return [
            Job(i, position) for i in range(self.images) for position in self.tiling.positions()
        ]

    def check(
        self, found: Sequence[AnyArray], jobs: int, first: Sequence[Sequence[int]] | None
    ) -> None:
        """Refuse outputs for `jobs` tiles that have another rank or size than promised.

        Parameters
        ----------
        first : shapes of the outputs of the image, known from the first tile; None for this one

        Raises
        ------
        OutputShapeDiffers
        """
        checked_count("outputs", wanted=len(self.outputs), found=len(found))
        for number, (rule, array) in enumerate(zip(self.outputs, found, strict=True)):
            sizes = {along.axis: along.tile_output(rule) for along in self.tiling.axes}
            sizes["b"] = jobs
            if first is not None and len(rule.axes) == array.ndim:
                # axes that are neither stacked nor tiled stay as the first tile had them
                had = zip(rule.axes, first[number], strict=True)
                sizes = {axis: size for axis, size in had if axis not in sizes} | sizes
            wanted = [sizes.get(axis) for axis in rule.axes]
            if len(wanted) != array.ndim or any(
                size not in (None, there) for size, there in zip(wanted, array.shape, strict=True)
            ):
                words = (f"{a}={n or 'any'}" for a, n in zip(rule.axes, wanted, strict=True))
                raise OutputShapeDiffers(number, ", ".join(words), array.shape)

    def whole(self, number: int, tile: Sequence[int]) -> tuple[int, ...]:
        """Give the shape of an output of the image from that of a tile."""
        rule = self.outputs[number]
        sizes = {along.axis: along.image_output(rule) for along in self.tiling.axes}
        sizes["b"] = self.images
        return tuple(sizes.get(a, n) for a, n in zip(rule.axes, tile, strict=True))

    def averaged(self, dtype: DTypeLike) -> bool:
        """Say whether tiles with values of `dtype` are averaged; whole numbers are cut."""
        some = any(along.blend is not None for along in self.tiling.axes)
        return some and np.issubdtype(dtype, np.floating)

    def for_dtype(self, dtype: DTypeLike) -> Places:
        """Give the places of outputs of `dtype`: numbers such as labels have no average."""
        if self.averaged(dtype) or all(along.blend is None for along in self.tiling.axes):
            return self
        axes = tuple(replace(along, blend=None) for along in self.tiling.axes)
        return replace(self, tiling=replace(self.tiling, axes=axes))

    def shares(self, number: int, job: Job) -> Shares:
        """Give the share of a tile along each axis of an output, in what is kept of it."""
        pairs = zip(self.tiling.axes, self._shares[number], job.position, strict=True)
        found = {along.axis: parts[at] for along, parts, at in pairs if parts}
        return [found.get(axis) for axis in self.outputs[number].axes]

    def of(self, number: int, i: int, job: Job) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Give where the output of the `i`-th tile of a batch is kept, and where it goes."""
        pairs = zip(self.tiling.axes, self._kept[number], job.position, strict=True)
        kept = {along.axis: parts[at] for along, parts, at in pairs if parts}
        kept["b"] = Kept(slice(i, i + 1), slice(job.image, job.image + 1))
        whole = Kept(slice(None), slice(None))
        parts = [kept.get(axis, whole) for axis in self.outputs[number].axes]
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
    places : which part of a tile goes where
    """

    def __init__(self, places: Places) -> None:
        self.arrays: list[AnyArray] = []
        self._places = places
        self._of: list[Places] = []

    def missing(self) -> list[Job]:
        """Give all tiles: nothing is kept from before."""
        return self._places.jobs()

    def place(self, found: Sequence[AnyArray], jobs: Sequence[Job]) -> None:
        """Copy what is kept of the outputs for `jobs`.

        Raises
        ------
        OutputShapeDiffers
            They have another rank or size than promised.
        """
        first = [array.shape for array in self.arrays] if self.arrays else None
        self._places.check(found, len(jobs), first)
        if not self.arrays:
            self._begin(found)
        for number, array in enumerate(found):
            places = self._of[number]
            for i, job in enumerate(jobs):
                source, target = places.of(number, i, job)
                if places.averaged(array.dtype):
                    share = places.shares(number, job)
                    self.arrays[number][target] += weighted(array[source], share)
                else:
                    self.arrays[number][target] = array[source]

    def _begin(self, found: Sequence[AnyArray]) -> None:
        self._of = [self._places.for_dtype(array.dtype) for array in found]
        for number, (array, places) in enumerate(zip(found, self._of, strict=True)):
            shape = places.whole(number, array.shape)
            if places.averaged(array.dtype):
                self.arrays.append(np.zeros(shape, np.result_type(array.dtype, np.float32)))
            else:
                self.arrays.append(np.empty(shape, array.dtype))


def _kept(along: AxisTiling, rule: OutputRule) -> tuple[Kept, ...]:
    return along.kept(rule) if along.axis in rule.axes else ()
