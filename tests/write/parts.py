"""Labels in memory of which parts are read, for tests of their writers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.write.result import Region, Result


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


@dataclass(frozen=True)
class ArrayResult:
    """Labels of a plane or stack as the result of a run, in one region, and perhaps its table."""

    axes: str
    array: AnyArray
    table: Mapping[str, AnyArray] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    pixel_um: Mapping[str, float] = field(default_factory=dict)

    @property
    def labels(self) -> ArrayMask:
        return ArrayMask(self.axes, self.array)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"image": "a.tif", **self.record}

    def regions(self) -> Iterator[tuple[Mapping[str, int], list[Region]]]:
        """Give the frames of a time series one by one."""
        if "t" not in self.axes:
            yield {}, [Region(self.array, 0, 0)]
            return
        for t, frame in enumerate(self.array):
            yield {"t": t}, [Region(frame, 0, 0)]

    def rows(self, _kind: str) -> Iterator[Mapping[str, AnyArray]]:
        """Give the table of each frame, where there are any: the rows of its labels."""
        for _, regions in self.regions():
            here = np.isin(self.table["label"], regions[0].labels)
            yield {name: column[here] for name, column in self.table.items()}

    def as_result(self) -> Result:
        return cast("Result", self)
