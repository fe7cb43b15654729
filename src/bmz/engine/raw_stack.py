"""The maps of a network for a large image on the disk: kept plane by plane, read part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import in_image_order
from bmz.base.boxes import boxes
from bmz.base.files import reserve, whole_file
from bmz.engine.prepared_image import StoredMap
from bmz.plan.plan import Blocks


def keep_raw(maps: StoredMap, file: Path, blocks: Blocks) -> None:
    """Write the map of a plane or stack as ``.npy``, float32; it appears when it is whole."""
    side = blocks.side_for(maps.shape[1] if len(maps.shape) > 3 else 1)  # noqa: PLR2004  (c, z, y, x)
    with whole_file(file) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.dtype(np.float32), maps.shape)
        reserve(temporary, temporary.stat().st_size)
        for box in boxes(maps.shape[1:], (*maps.shape[1:-2], side, side)):
            array[(slice(None), *box)] = maps[(slice(None), *box)]
        array.flush()


@dataclass(frozen=True)
class RawStack:
    """The maps of all planes or stacks of an image.

    Parameters
    ----------
    maps : (c, (z,) y, x) float32, or the file of it that `keep_raw` wrote; one for each position
        along the axes of `loop`, the last one the fastest
    loop : number of positions along t and z, where the model is run once for each
    space : axes of each map behind its channels, ``yx`` or ``zyx``
    """

    maps: Sequence[AnyArray | Path]
    loop: Mapping[str, int]
    space: str

    @property
    def axes(self) -> str:
        """One letter an axis of the whole, in the order of images."""
        return in_image_order((*self.loop, "c", *self.space))

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the whole."""
        sizes = dict(zip("c" + self.space, self._map(0).shape, strict=True)) | dict(self.loop)
        return tuple(sizes[axis] for axis in self.axes)

    def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
        """Give a part: one slice an axis."""
        sides = dict(zip(self.axes, box, strict=True))
        ranges = [range(*sides[axis].indices(n)) for axis, n in self.loop.items()]
        inner = tuple(sides[axis] for axis in "c" + self.space)
        counts = tuple(self.loop.values())
        numbers = [int(np.ravel_multi_index(at, counts)) if at else 0 for at in product(*ranges)]
        found = [self._map(number)[inner] for number in numbers]
        stacked = np.stack(found).reshape(*map(len, ranges), *found[0].shape)
        laid = [*self.loop, "c", *self.space]
        return stacked.transpose([laid.index(axis) for axis in self.axes])

    def _map(self, number: int) -> AnyArray:
        held = self.maps[number]
        if not isinstance(held, Path):
            return held
        array: AnyArray = np.load(held, mmap_mode="r", allow_pickle=False)
        return array
