"""Run a network tile by tile and put its outputs together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.plan.axis_tiling import AxisTiling, Kept, OutputRule
from bmz.plan.tiling import Tiling
from bmz.predict.backend import Backend, Device, OutOfMemory, Overlapping, checked_count
from bmz.predict.cutting import Job, Parted, Tensor, stacked_tiles


class InputShapeDiffers(CouldNotTell):
    """The inputs do not have the shape that the tiles were planned for."""

    def __init__(self, axes: str, shape: Sequence[int], wanted: str) -> None:
        super().__init__(
            f"an input with axes {axes} has shape {tuple(shape)}, wanted {wanted}",
            hint="all inputs of a model must show the same part of the same image",
            code="predict.input-shape",
        )


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


class TileTooLarge(CouldNotTell):
    """Even one tile does not fit into memory."""

    def __init__(self, tile: Mapping[str, int], device: Device) -> None:
        size = " x ".join(map(str, tile.values()))
        half = max(tile.values(), default=0) // 2
        super().__init__(
            f"the memory of {device} does not hold the network's work on one tile of {size} px",
            hint=f"--tile {half}, or another --device",
            code="predict.out-of-memory",
        )


Storage = Callable[[tuple[int, ...], np.dtype[Any]], Any]
"""Makes something of a shape and dtype into which parts can be written."""


class Tiled(NamedTuple):
    """What came out of all tiles.

    Parameters
    ----------
    arrays : one for each output
    batch : tiles at once, as many as memory held
    """

    arrays: list[AnyArray]
    batch: int


def predict_tiled(
    backend: Backend,
    inputs: Sequence[Tensor | Parted],
    tiling: Tiling,
    outputs: Sequence[OutputRule],
    *,
    batch: int = 1,
    listener: Listener = nobody,
) -> list[AnyArray]:
    """Give the outputs of `run_tiles` alone; all as there."""
    return run_tiles(backend, inputs, tiling, outputs, batch=batch, listener=listener).arrays


def run_tiles(  # noqa: PLR0913  (three of them are keywords with defaults)
    backend: Backend,
    inputs: Sequence[Tensor | Parted],
    tiling: Tiling,
    outputs: Sequence[OutputRule],
    *,
    batch: int = 1,
    listener: Listener = nobody,
    storage: Storage = np.empty,
) -> Tiled:
    """Run the network on every tile and assemble its outputs.

    Parameters
    ----------
    backend : the network; one that is `Overlapping` computes while the next tiles are cut
    inputs : in the order of the description; those with spatial axes have the size of the image
        along them, others are given whole with each tile. Several images along ``b`` are run
        one after the other
    tiling : from `bmz.plan.tiling.plan_tiles`
    outputs : how each output lies on the input, in the order of the description
    batch : tiles in one run at most; 1 where the model fixes its batch size. An input or output
        without ``b`` makes it 1. It is halved when memory runs out
    listener : hears of each batch, and of a smaller one
    storage : makes what an output is assembled in, from its shape and dtype; an array in memory
        if nothing else is said

    Returns
    -------
    Tiled
        One array for each output, with the axes of its rule, its spatial size that of the image
        divided by its spacing (rounded up), and the dtype that the network returned.

    Raises
    ------
    InputShapeDiffers, OutputShapeDiffers, NotTileable, TileTooLarge
    """
    images = _image_count(inputs, tiling, outputs)
    mosaic = Mosaic(tiling, outputs, images, storage)
    jobs = [Job(image, position) for image in range(images) for position in tiling.positions()]
    most = batch if _stackable(inputs, tiling, outputs) else 1
    runner = _Runner(backend)
    done = 0
    while done < len(jobs):
        try:
            for found, some in runner.run(inputs, jobs[done:], most, tiling):
                mosaic.place(found, some)
                done += len(some)
                listener(Progress("tiles", done, len(jobs)))
        except (OutOfMemory, MemoryError) as why:
            tried = min(most, len(jobs) - done)
            if tried == 1:
                raise TileTooLarge(tiling.tile, backend.device) from why
            most = tried // 2
            listener(Note(f"{tried} tiles at once do not fit into memory; now {most}"))
    return Tiled(mosaic.arrays, most)


class _Runner:
    """Runs batches of tiles; where the backend can, one computes while the next is cut."""

    def __init__(self, backend: Backend) -> None:
        self._start: Callable[[Sequence[AnyArray]], Any] = backend.run
        self._finish: Callable[[Any], list[AnyArray]] = list
        self._ahead = 0
        if isinstance(backend, Overlapping):
            self._start, self._finish, self._ahead = backend.submit, backend.collect, 1

    def run(
        self, inputs: Sequence[Tensor | Parted], jobs: Sequence[Job], most: int, tiling: Tiling
    ) -> Iterator[tuple[list[AnyArray], Sequence[Job]]]:
        under_way: deque[tuple[Any, Sequence[Job]]] = deque()
        for first in range(0, len(jobs), most):
            some = jobs[first : first + most]
            tiles = [stacked_tiles(tensor, some, tiling) for tensor in inputs]
            under_way.append((self._start(tiles), some))
            if len(under_way) > self._ahead:
                ticket, finished = under_way.popleft()
                yield self._finish(ticket), finished
        for ticket, finished in under_way:
            yield self._finish(ticket), finished


class Mosaic:
    """The outputs for the whole image, filled tile by tile.

    Parameters
    ----------
    tiling : where the tiles lie
    outputs : how each output lies on the input
    images : size of the axis ``b`` of the outputs
    storage : makes what an output is assembled in

    Raises
    ------
    NotTileable
        An output lacks an axis that has several tiles.
    """

    def __init__(
        self,
        tiling: Tiling,
        outputs: Sequence[OutputRule],
        images: int,
        storage: Storage = np.empty,
    ) -> None:
        for rule in outputs:
            for along in tiling.axes:
                if along.axis not in rule.axes and len(along.starts) > 1:
                    raise NotTileable(rule, along)
        self.arrays: list[AnyArray] = []
        self._tiling, self._outputs, self._images = tiling, outputs, images
        self._storage = storage
        self._kept = [[_kept(along, rule) for along in tiling.axes] for rule in outputs]

    def place(self, found: Sequence[AnyArray], jobs: Sequence[Job]) -> None:
        """Copy what is kept of the outputs for `jobs`.

        Raises
        ------
        OutputShapeDiffers
            They have another rank or size than promised.
        """
        checked_count("outputs", wanted=len(self._outputs), found=len(found))
        for number, array in enumerate(found):
            self._check(number, array, len(jobs))
        if not self.arrays:
            self.arrays = [
                self._storage(self._shape(rule, array), array.dtype)
                for rule, array in zip(self._outputs, found, strict=True)
            ]
        for number, array in enumerate(found):
            for i, job in enumerate(jobs):
                source, target = self._places(number, i, job)
                self.arrays[number][target] = array[source]

    def _check(self, number: int, array: AnyArray, jobs: int) -> None:
        rule = self._outputs[number]
        sizes = {along.axis: along.tile_output(rule) for along in self._tiling.axes}
        sizes["b"] = jobs
        if self.arrays and len(rule.axes) == array.ndim:
            # axes that are neither stacked nor tiled stay as the first tile had them
            had = zip(rule.axes, self.arrays[number].shape, strict=True)
            sizes = {axis: size for axis, size in had if axis not in sizes} | sizes
        wanted = [sizes.get(axis) for axis in rule.axes]
        if len(wanted) != array.ndim or any(
            size not in (None, there) for size, there in zip(wanted, array.shape, strict=True)
        ):
            words = (f"{a}={n or 'any'}" for a, n in zip(rule.axes, wanted, strict=True))
            raise OutputShapeDiffers(number, ", ".join(words), array.shape)

    def _shape(self, rule: OutputRule, array: AnyArray) -> tuple[int, ...]:
        sizes = {along.axis: along.image_output(rule) for along in self._tiling.axes}
        sizes["b"] = self._images
        return tuple(sizes.get(a, n) for a, n in zip(rule.axes, array.shape, strict=True))

    def _places(self, number: int, i: int, job: Job) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Give where the output of the `i`-th tile of a batch is, and where it goes."""
        pairs = zip(self._tiling.axes, self._kept[number], job.position, strict=True)
        kept = {along.axis: parts[at] for along, parts, at in pairs if parts}
        kept["b"] = Kept(slice(i, i + 1), slice(job.image, job.image + 1))
        whole = Kept(slice(None), slice(None))
        parts = [kept.get(axis, whole) for axis in self._outputs[number].axes]
        return tuple(part.source for part in parts), tuple(part.target for part in parts)


def _kept(along: AxisTiling, rule: OutputRule) -> tuple[Kept, ...]:
    return along.kept(rule) if along.axis in rule.axes else ()


def _stackable(
    inputs: Sequence[Tensor | Parted], tiling: Tiling, outputs: Sequence[OutputRule]
) -> bool:
    tiled = {along.axis for along in tiling.axes}
    return all("b" in tensor.axes or tiled.isdisjoint(tensor.axes) for tensor in inputs) and all(
        "b" in rule.axes for rule in outputs
    )


def _image_count(
    inputs: Sequence[Tensor | Parted], tiling: Tiling, outputs: Sequence[OutputRule]
) -> int:
    """Give the size of ``b``, when all inputs have the shape that was planned for."""
    wanted = {along.axis: along.image for along in tiling.axes}
    if not all("b" in rule.axes for rule in outputs):
        wanted["b"] = 1  # a second image would have no place
    for array, axes in inputs:
        for axis, size in zip(axes, array.shape, strict=True):
            if axis in ("b", *tiling.tile) and size != wanted.setdefault(axis, size):
                raise InputShapeDiffers(axes, array.shape, f"{axis}={wanted[axis]}")
    return wanted.get("b", 1)
