"""An output of a network on the disk, a file a tile: what is there need not be run again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.boxes import Box
from bmz.base.files import whole_file
from bmz.plan.axis_tiling import Kept
from bmz.predict.blending import weighted
from bmz.predict.cutting import Job
from bmz.predict.mosaic import Places


@dataclass(frozen=True)
class TileStore:
    """Takes what is kept of one output of each tile into a file of its own.

    A file appears under its name when it is whole, so that a run may be killed at any moment, and
    several processes may fill one store. As ``.npy``: a part of a tile is mapped, not read whole.

    Parameters
    ----------
    folder : of the files; it exists
    places : which part of a tile goes where
    number : of the output
    only : numbers of the tiles that are wanted; None for all

    Raises
    ------
    ValueError
        The tiles are of more than one image along ``b``.
    """

    folder: Path
    places: Places
    number: int
    only: Collection[int] | None = None

    def __post_init__(self) -> None:
        """Refuse what has no place."""
        if self.places.images != 1:
            raise ValueError(f"tiles of {self.places.images} images do not go into one store")

    def missing(self) -> list[Job]:
        """Give the tiles whose file is not there, in order."""
        jobs = self.places.jobs()
        return [jobs[number] for number in self.missing_numbers()]

    def missing_numbers(self) -> list[int]:
        """Give the numbers of these tiles."""
        there = {path.name for path in self.folder.iterdir()}
        wanted = range(self.places.tiling.count) if self.only is None else sorted(self.only)
        return [number for number in wanted if _name(number) not in there]

    def place(self, found: Sequence[AnyArray], jobs: Sequence[Job]) -> None:
        """Write what is kept of the outputs for `jobs`.

        Raises
        ------
        OutputShapeDiffers
            They have another rank or size than promised.
        """
        self.places.check(found, len(jobs), None)
        for i, job in enumerate(jobs):
            array = found[self.number]
            source, _ = self.places.for_dtype(array.dtype).of(self.number, i, job)
            kept = np.ascontiguousarray(array[source])
            with whole_file(self.folder / _name(self._number_of(job))) as temporary:
                np.save(temporary, kept, allow_pickle=False)

    def stored(self) -> StoredTiles:
        """Give the output of the whole image, once all tiles are there."""
        return StoredTiles(self)

    def _number_of(self, job: Job) -> int:
        counts = [len(along.starts) for along in self.places.tiling.axes]
        return int(np.ravel_multi_index(job.position, counts)) if counts else 0

    def read(self, job: Job, box: Box = ()) -> AnyArray:
        """Give a part of what is kept of a tile, or all of it."""
        path = self.folder / _name(self._number_of(job))
        tile: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
        return tile[box]


class StoredTiles:
    """An output of the whole image, of which parts are read from the files of tiles.

    Parameters
    ----------
    store : filled
    """

    def __init__(self, store: TileStore) -> None:
        self._store = store
        first = store.read(store.places.jobs()[0])
        self._places = store.places.for_dtype(first.dtype)
        self._averaged = self._places.averaged(first.dtype)
        self.dtype = np.result_type(first.dtype, np.float32) if self._averaged else first.dtype
        self.shape = store.places.whole(store.number, first.shape)
        """With the axes of the output."""

    def tiles(self) -> Iterator[AnyArray]:
        """Give what is kept of each tile, one after the other: together each pixel once."""
        return map(self._store.read, self._store.places.jobs())

    def __getitem__(self, box: Box) -> AnyArray:
        """Read a part: one slice an axis of the output, without a step."""
        sides = [slice(*side.indices(n)) for side, n in zip(box, self.shape, strict=True)]
        size = [max(side.stop - side.start, 0) for side in sides]
        part = np.zeros(size, self.dtype) if self._averaged else np.empty(size, self.dtype)
        for job, kept in self._within(sides):
            there, here = [], []
            for side, one in zip(sides, kept, strict=True):
                start, stop = max(side.start, one.start), min(side.stop, one.stop)
                there.append(slice(start - one.start, stop - one.start))
                here.append(slice(start - side.start, stop - side.start))
            values = self._store.read(job, tuple(there))
            if self._averaged:
                shares = self._places.shares(self._store.number, job)
                cut = [None if s is None else s[at] for s, at in zip(shares, there, strict=True)]
                part[tuple(here)] += weighted(values, cut)
            else:
                part[tuple(here)] = values
        return part

    def _within(self, sides: Sequence[slice]) -> list[tuple[Job, list[slice]]]:
        """Give the tiles that have a part in the box, each with where it lies in the whole."""
        places, number = self._places, self._store.number
        axes, tiling = places.outputs[number].axes, places.tiling
        choices = []
        for along in tiling.axes:
            kept = along.kept(places.outputs[number]) if along.axis in axes else ()
            side = sides[axes.index(along.axis)] if along.axis in axes else slice(0, 1)
            choices.append(_touching(kept, side))
        found = []
        for position in product(*choices):
            job = Job(0, position)
            _, target = places.of(number, 0, job)
            lies = [slice(*one.indices(n)) for one, n in zip(target, self.shape, strict=True)]
            found.append((job, lies))
        return found


def _touching(kept: Sequence[Kept], side: slice) -> list[int]:
    # an axis that the output has not has one tile
    if not kept:
        return [0]
    return [
        number
        for number, one in enumerate(kept)
        if one.target.start < side.stop and one.target.stop > side.start
    ]


def _name(number: int) -> str:
    return f"tile-{number:06d}.npy"
