"""Text files of a run: its record as JSON, and its tables of objects as CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import Path, PurePath

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file
from bmz.base.notes import Json


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write `record` as indented JSON in UTF-8.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    record : as `as_json` takes it

    Raises
    ------
    TypeError
        It holds something that JSON cannot express.
    """
    text = json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as temporary:
        # the name of a file need not be UTF-8; what stands for its bytes is escaped, as in JSON
        temporary.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def as_json(value: object) -> Json:
    """Turn NumPy values, paths, dtypes, dates, sets and dataclasses into plain values of JSON.

    NaN and infinity become null: JSON has no number for them.

    Examples
    --------
    >>> as_json({"p": Path("a.tif"), "x": np.float32(0.5), "n": float("nan")})
    {'p': 'a.tif', 'x': 0.5, 'n': None}

    Raises
    ------
    TypeError
        JSON cannot express it.
    """
    plain = _simple(value)
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    if plain is None or isinstance(plain, str | bool | int | float):
        return plain
    if isinstance(plain, Mapping):
        return {str(_simple(key)): as_json(entry) for key, entry in plain.items()}
    if isinstance(plain, AbstractSet):
        return [as_json(entry) for entry in sorted(plain, key=str)]
    if isinstance(plain, Sequence) and not isinstance(plain, bytes | bytearray):
        return [as_json(entry) for entry in plain]
    raise TypeError(f"JSON cannot express {type(value).__name__}: {value!r:.80}")


def _simple(value: object) -> object:
    plain: object = value
    if isinstance(value, Enum):
        plain = value.value
    elif isinstance(value, np.ndarray | np.generic):
        plain = value.tolist()
    elif isinstance(value, PurePath):
        plain = str(value)
    elif isinstance(value, np.dtype):
        plain = value.name
    elif isinstance(value, date):  # and datetime, its subclass
        plain = value.isoformat()
    elif is_dataclass(value) and not isinstance(value, type):
        plain = {field.name: getattr(value, field.name) for field in fields(value)}
    return plain


_ROWS_AT_ONCE = 4096
"""Words take ten times the memory of numbers."""

DIGITS = 10
"""Of numbers in tables: more than any measurement has."""

_MOST_WHOLE = 2**53
"""Beyond, a float64 no longer counts one by one."""


def write_objects(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    """Write one row per object; what is not known (NaN) stays an empty cell.

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


def join_objects(path: Path, tables: Mapping[Path, Mapping[str, str]]) -> None:
    """Write the rows of tables below each other; a cell that a table lacks stays empty.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    tables : CSV file -> heading and value of columns that its rows get in front
    """
    first = dict.fromkeys(name for columns in tables.values() for name in columns)
    headings = first | dict.fromkeys(name for table in tables for name in _heading(table))
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(headings), lineterminator="\n")
        writer.writeheader()
        for table, columns in tables.items():
            writer.writerows({**columns, **row} for row in _rows(table))


def _heading(table: Path) -> Sequence[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _parts(table: Mapping[str, AnyArray]) -> Iterator[list[AnyArray]]:
    longest = max(map(len, table.values()), default=0)
    for start in range(0, longest, _ROWS_AT_ONCE):
        yield [column[start : start + _ROWS_AT_ONCE] for column in table.values()]


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        if number.is_integer() and abs(number) <= _MOST_WHOLE:
            return str(int(number))  # sums of counts stay whole
        return f"{number:.{DIGITS}g}" if math.isfinite(number) else ""
    return str(value)
