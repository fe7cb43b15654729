"""Run a network tile by tile and assemble its outputs, with smaller tiles if memory runs out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from bmz.base.arrays import AnyArray, TensorPlace
from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.plan.plan import Plan, with_smaller_tiles
from bmz.plan.tiling import OutputRule, Tiling
from bmz.predict.backend import Backend, Device, OutOfMemory, Overlapping, StaysThere, Ticket
from bmz.predict.cutting import LazyTensor, Tensor, TileJob, expect_tiles, stacked_tiles
from bmz.predict.mosaic import Assembly, Mosaic, Places, TensorMosaic
from bmz.spec.model import ModelSpec


class InputShapeDiffers(CouldNotTell):
    """The inputs do not have the shape that the tiles were planned for."""

    def __init__(self, axes: str, shape: Sequence[int], expected: str) -> None:
        super().__init__(
            f"an input with axes {axes} has shape {tuple(shape)}, wanted {expected}",
            hint="all inputs of a model must show the same part of the same image",
            code="predict.input-shape",
        )


class TileTooLarge(CouldNotTell):
    """Not even one tile fits into memory."""

    def __init__(self, tile: Mapping[str, int], device: Device) -> None:
        size = " x ".join(map(str, tile.values()))
        half = max(tile.values(), default=0) // 2
        super().__init__(
            f"{device} does not have enough memory to run the network on one tile of {size} px",
            hint=f"use --tile {half}, or another --device",
            code="predict.out-of-memory",
        )


class Tiled(NamedTuple):
    """The result of all tiles.

    Parameters
    ----------
    arrays : one array per output
    batch : number of tiles run at once, as many as fitted into memory
    left : why arrays that should stay on the network's device do not, as a clause
    """

    arrays: list[AnyArray]
    batch: int
    left: str = ""


def predict_tiled(
    backend: Backend,
    inputs: Sequence[Tensor | LazyTensor],
    tiling: Tiling,
    outputs: Sequence[OutputRule],
    *,
    batch: int = 1,
    listener: Listener = nobody,
) -> list[AnyArray]:
    """Return only the outputs of `run_tiles`, which has the same parameters."""
    return run_tiles(backend, inputs, tiling, outputs, batch=batch, listener=listener).arrays


def run_tiles(
    backend: Backend,
    inputs: Sequence[Tensor | LazyTensor],
    tiling: Tiling,
    outputs: Sequence[OutputRule],
    *,
    batch: int = 1,
    listener: Listener = nobody,
) -> Tiled:
    """Run the network on every tile and assemble its outputs in memory.

    Parameters
    ----------
    backend, inputs, tiling, outputs, batch, listener : as in `Tiles`

    Returns
    -------
    Tiled
        One array per output, with the axes of its rule, the size of the image divided by the
        output's spacing (rounded up), and the dtype that the network returned.

    Raises
    ------
    InputShapeDiffers, OutputShapeDiffers, NotTileable, TileTooLarge
    """
    return in_memory(Tiles(backend, inputs, tiling, outputs, batch, listener))


def in_memory(tiles: Tiles) -> Tiled:
    """Run the network on every tile and assemble its outputs; see `run_tiles`."""
    if tiles.there is None:
        mosaic = Mosaic(tiles.places())
        batch = fill(mosaic, tiles)
        return Tiled(mosaic.arrays, batch)
    there = TensorMosaic(tiles.places(), tiles.there)
    batch = fill(there, tiles)
    return Tiled(there.arrays, batch, there.left)


def uncounted(_seconds: float, /) -> None:
    """Ignore how long the device computed."""


@dataclass(frozen=True)
class Tiles:
    """A network and the inputs that it is run on, tile by tile.

    Parameters
    ----------
    backend : the network; an `Overlapping` one computes while the next tiles are cut
    inputs : inputs in the order of the description. Along spatial axes they have the size of the
        image; inputs without spatial axes are passed whole with each tile. Several images along
        ``b`` are run one after another
    tiling : result of `bmz.plan.tiling.plan_tiles`
    outputs : geometry of each output relative to the input, in the order of the description
    batch : maximum number of tiles per run; 1 if the model fixes its batch size, or if an input
        or output lacks ``b``. It is halved when memory runs out
    listener : notified of each batch, and when the batch size is reduced
    computed : called with the seconds in which the device computed, batch by batch
    there : device on which outputs stay as tensors, for a `StaysThere` backend; None for arrays
    """

    backend: Backend
    inputs: Sequence[Tensor | LazyTensor]
    tiling: Tiling
    outputs: Sequence[OutputRule]
    batch: int = 1
    listener: Listener = nobody
    computed: Callable[[float], None] = uncounted
    there: TensorPlace | None = None

    def places(self) -> Places:
        """Return where the outputs of the tiles go.

        Raises
        ------
        InputShapeDiffers, NotTileable
        """
        images = _image_count(self.inputs, self.tiling, self.outputs)
        return Places(self.tiling, self.outputs, images)


def fill(assembly: Assembly, tiles: Tiles) -> int:
    """Run the network on the tiles that an assembly lacks.

    Returns
    -------
    int
        number of tiles run at once, as many as fitted into memory

    Raises
    ------
    OutputShapeDiffers, TileTooLarge
    """
    jobs = assembly.missing()
    total = tiles.places().images * tiles.tiling.count
    before = total - len(jobs)
    most = tiles.batch if _stackable(tiles.inputs, tiles.tiling, tiles.outputs) else 1
    runner = _Runner(tiles)
    done = 0
    while done < len(jobs):
        try:
            for outputs, some in runner.run(tiles.inputs, jobs[done:], most, tiles.tiling):
                assembly.place(outputs, some)
                done += len(some)
                tiles.listener(Progress("tiles", before + done, total))
        except (OutOfMemory, MemoryError) as why:
            tried = min(most, len(jobs) - done)
            if tried == 1:
                raise TileTooLarge(tiles.tiling.tile, tiles.backend.device) from why
            most = tried // 2
            tiles.listener(
                Note(f"{tried} tiles at once do not fit into memory; continuing with {most}")
            )
    return most


def _collected(
    backend: Overlapping[Ticket], computed: Callable[[float], None], ticket: Ticket
) -> list[AnyArray]:
    outputs = backend.collect(ticket)
    computed(backend.computed_s(ticket))
    return outputs


def _collected_there(
    backend: StaysThere[Ticket], computed: Callable[[float], None], ticket: Ticket
) -> list[Any]:
    outputs = backend.collect_there(ticket)
    computed(backend.computed_s(ticket))
    return outputs


class _Runner:
    """Runs batches of tiles; if the backend supports it, one is computed while the next is cut."""

    def __init__(self, tiles: Tiles) -> None:
        backend, computed = tiles.backend, tiles.computed
        self._start: Callable[[Sequence[AnyArray]], Any] = backend.run
        self._finish: Callable[[Any], list[AnyArray]] = list
        self._ahead, self._computed = 0, computed
        if tiles.there is not None and isinstance(backend, StaysThere):
            self._start, self._ahead = backend.submit_there, 1
            self._finish = partial(_collected_there, backend, computed)
        elif isinstance(backend, Overlapping):
            self._start, self._ahead = backend.submit, 1
            self._finish = partial(_collected, backend, computed)

    def run(
        self,
        inputs: Sequence[Tensor | LazyTensor],
        jobs: Sequence[TileJob],
        most: int,
        tiling: Tiling,
    ) -> Iterator[tuple[list[AnyArray], Sequence[TileJob]]]:
        under_way: deque[tuple[Any, Sequence[TileJob]]] = deque()
        for first in range(0, len(jobs), most):
            some = jobs[first : first + most]
            tiles = [stacked_tiles(tensor, some, tiling) for tensor in inputs]
            for tensor in inputs:
                expect_tiles(tensor, jobs[first + most : first + 2 * most], tiling)
            begun = time.perf_counter()
            under_way.append((self._start(tiles), some))
            if not self._ahead:
                self._computed(time.perf_counter() - begun)
            if len(under_way) > self._ahead:
                ticket, finished = under_way.popleft()
                yield self._finish(ticket), finished
        for ticket, finished in under_way:
            yield self._finish(ticket), finished


def _stackable(
    inputs: Sequence[Tensor | LazyTensor], tiling: Tiling, outputs: Sequence[OutputRule]
) -> bool:
    tiled = {along.axis for along in tiling.axes}
    return all("b" in tensor.axes or tiled.isdisjoint(tensor.axes) for tensor in inputs) and all(
        "b" in rule.axes for rule in outputs
    )


def _image_count(
    inputs: Sequence[Tensor | LazyTensor], tiling: Tiling, outputs: Sequence[OutputRule]
) -> int:
    """Return the size of ``b``; raise an error if an input does not have the planned shape."""
    sizes = {along.axis: along.image for along in tiling.axes}
    if not all("b" in rule.axes for rule in outputs):
        sizes["b"] = 1  # there is no place for a second image
    for array, axes in inputs:
        for axis, size in zip(axes, array.shape, strict=True):
            if axis in ("b", *tiling.tile) and size != sizes.setdefault(axis, size):
                raise InputShapeDiffers(axes, array.shape, f"{axis}={sizes[axis]}")
    return sizes.get("b", 1)


class Attempts:
    """Plans with smaller and smaller tiles, until one fits into memory.

    ``for attempt in attempts: with attempt as plan: ...`` repeats the block with smaller tiles if
    it raises `TileTooLarge`. The block must end with a call of `succeed`.

    Parameters
    ----------
    plan : plan of the first attempt
    model : description of the model, which states the valid sizes
    listener : notified of smaller tiles

    Raises
    ------
    TileTooLarge
        Even the smallest tile that the network takes does not fit into memory.
    """

    def __init__(self, plan: Plan, model: ModelSpec, listener: Listener) -> None:
        self.plan = plan
        """Plan of the current attempt; after success, with the number of tiles that fit at once."""
        self._model = model
        self._listener = listener
        self._done = False

    def succeed(self, batch: int) -> None:
        """End the attempts.

        Parameters
        ----------
        batch : number of tiles run at once, as many as fitted into memory
        """
        self.plan, self._done = replace(self.plan, batch=batch), True

    def __iter__(self) -> Iterator[Self]:
        while not self._done:
            yield self

    def __enter__(self) -> Plan:
        return self.plan

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(why, TileTooLarge):
            return False
        smaller = with_smaller_tiles(self.plan, self._model)
        if smaller is None:
            return False
        large, small = (_size(plan.tiling.tile) for plan in (self.plan, smaller))
        self._listener(Note(f"a tile of {large} does not fit into memory; continuing with {small}"))
        self.plan = smaller
        return True


def _size(tile: Mapping[str, int]) -> str:
    return f"{' x '.join(map(str, tile.values()))} px"
