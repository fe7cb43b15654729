"""Labels in memory of which parts are read, for tests of their writers."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.base.arrays import AnyArray


@dataclass(frozen=True)
class ArrayMask:
    axes: str
    array: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def count(self) -> int:
        return int(self.array.max(initial=0))

    def __getitem__(self, box: tuple[slice, ...], /) -> AnyArray:
        part: AnyArray = self.array[box]
        return part
