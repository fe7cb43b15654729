"""The table of objects as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file


def write_objects(path: Path, table: Mapping[str, AnyArray]) -> None:
    """Write one row an object; what is not known (NaN) stays an empty cell.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    table : columns of one length by their heading, as `bmz.process.measure` gives them

    Raises
    ------
    ValueError
        The columns differ in length.
    """
    columns = [[_cell(value) for value in column] for column in table.values()]
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(table)
        rows.writerows(zip(*columns, strict=True))


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        # ten digits: more than any measurement has, and sums of counts stay whole
        return f"{float(value):.10g}" if math.isfinite(value) else ""
    return str(value)
