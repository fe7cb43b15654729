"""The table of objects as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file

_ROWS_AT_ONCE = 4096
"""Words take ten times the memory of numbers."""

_MOST_WHOLE = 2**53
"""Beyond, a float64 no longer counts one by one."""


def write_objects(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    """Write one row an object; what is not known (NaN) stays an empty cell.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    tables : one or more that are written one below the other: columns of one length by their
        heading, as `bmz.process.measure` gives them, the same headings in each

    Raises
    ------
    ValueError
        The columns differ in length, or the headings from table to table.
    """
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        heading: list[str] | None = None
        for table in tables:
            if heading is None:
                heading = list(table)
                rows.writerow(heading)
            if list(table) != heading:
                raise ValueError(f"a table has the columns {list(table)}, the first {heading}")
            for some in _parts(table):
                columns = [[_cell(value) for value in column] for column in some]
                rows.writerows(zip(*columns, strict=True))


def _parts(table: Mapping[str, AnyArray]) -> Iterator[list[AnyArray]]:
    longest = max(map(len, table.values()), default=0)
    for start in range(0, longest, _ROWS_AT_ONCE):
        yield [column[start : start + _ROWS_AT_ONCE] for column in table.values()]


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        if number.is_integer() and abs(number) <= _MOST_WHOLE:
            return str(int(number))  # sums of counts stay whole
        # ten digits: more than any measurement has
        return f"{number:.10g}" if math.isfinite(number) else ""
    return str(value)
