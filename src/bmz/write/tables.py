"""Tables of objects as CSV and as Parquet, and the record of a run as JSON."""

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
from typing import Any, cast

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file
from bmz.base.notes import Json
from bmz.base.values import dataclass


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write `record` as indented JSON in UTF-8.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    record : values that `as_json` accepts

    Raises
    ------
    TypeError
        The record contains a value that JSON cannot express.
    """
    text = json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as temporary:
        # file names need not be UTF-8; surrogates for undecodable bytes are escaped, as in JSON
        temporary.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def as_json(value: object) -> Json:
    """Convert NumPy values, paths, dtypes, dates, sets and dataclasses to plain JSON values.

    NaN and infinity become null, because JSON has no number for them.

    Examples
    --------
    >>> as_json({"p": Path("a.tif"), "x": np.float32(0.5), "n": float("nan")})
    {'p': 'a.tif', 'x': 0.5, 'n': None}

    Raises
    ------
    TypeError
        JSON cannot express the value.
    """
    kind = type(value)
    if kind in _OF_JSON:  # the most frequent case skips the slower checks below
        return cast("Json", value)
    plain = value if kind is dict else _simple(value)
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    if plain is None or isinstance(plain, str | bool | int | float):
        return plain
    if isinstance(plain, Mapping):
        return {
            key if type(key) is str else str(_simple(key)): as_json(entry)
            for key, entry in plain.items()
        }
    if isinstance(plain, AbstractSet):
        return [as_json(entry) for entry in sorted(plain, key=str)]
    if isinstance(plain, Sequence) and not isinstance(plain, bytes | bytearray):
        return [as_json(entry) for entry in plain]
    raise TypeError(f"JSON cannot express {type(value).__name__}: {value!r:.80}")


_OF_JSON = frozenset({str, int, bool, type(None)})


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
"""Rows are formatted in parts, because text takes ten times the memory of numbers."""

DIGITS = 10
"""Significant digits of numbers in tables, more than any measurement has."""

_MOST_WHOLE = 2**53
"""Beyond this, float64 cannot represent every integer."""


def write_objects(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    """Write a CSV table with one row per object; an unknown value (NaN) is an empty cell.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : one or more tables with the same headings, written one below the other: heading ->
        column, all columns of one length, as `bmz.process.measure` returns them

    Raises
    ------
    ValueError
        The columns of a table differ in length, or the tables differ in their headings.
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
                raise ValueError(
                    f"a table has the columns {list(table)}, but the first table has {heading}"
                )
            for some in _parts(table):
                rows.writerows(zip(*map(cells, some), strict=True))


def join_objects(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    """Concatenate CSV tables by rows; cells of columns that a table lacks stay empty.

    A prepended column replaces a column of the same name.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : CSV file -> heading and value of the columns to prepend to its rows
    """
    first = dict.fromkeys(name for columns in tables.values() for name in columns)
    headings = first | dict.fromkeys(name for table in tables for name in _heading(table))
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(headings), lineterminator="\n")
        writer.writeheader()
        for table, columns in tables.items():
            same = {n: v if isinstance(v, str) else _cell(v) for n, v in columns.items()}
            writer.writerows({**row, **same} for row in _rows(table))


@dataclass(frozen=True)
class Numbered:
    """A table whose objects are matched with those of other tables by their number.

    Parameters
    ----------
    name : prefix of its headings
    table : CSV file
    counted : whether its objects lie inside those of the other tables, whose number is in the
        column ``parent``
    """

    name: str
    table: Path
    counted: bool = False


OF_IMAGE = ("image", "series", "file", "well", "field")
"""Headings of columns that are the same for all objects of an image."""

SIZES = ("area_px", "volume_px")
"""Headings of the size of an object, in 2D and in 3D."""


def join_numbers(path: Path, tables: Sequence[Numbered]) -> None:
    """Write one row per object number, with the columns of that object from each table.

    From each counted table, a row gets the number of objects inside its object, and the sum of
    their sizes. A time series has one row per number and frame. Columns about the image come first.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : tables to join, at least one of which is not counted
    """
    keys = [key for key in ("t", "label") if all(key in _heading(one.table) for one in tables)]
    rows: dict[tuple[int, ...], dict[str, str | int]] = {}
    headings = dict.fromkeys(
        [*(n for n in OF_IMAGE if any(n in _heading(one.table) for one in tables)), *keys]
    )
    for one in (one for one in tables if not one.counted):
        own = {n: f"{one.name}_{n}" for n in _heading(one.table) if n not in headings}
        headings |= dict.fromkeys(own.values())
        same = [name for name in _heading(one.table) if name in OF_IMAGE]
        for row in _rows(one.table):
            known = rows.setdefault(tuple(int(row[key]) for key in keys), {})
            known |= {name: row[name] for name in same}
            known |= {told: row[name] for name, told in own.items()}
    for one in (one for one in tables if one.counted):
        headings |= dict.fromkeys(_count_in_parents(one, keys, rows))
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(headings), lineterminator="\n")
        writer.writeheader()
        for numbers in sorted(rows):
            writer.writerow(dict(zip(keys, numbers, strict=True)) | rows[numbers])


def _count_in_parents(
    one: Numbered, keys: Sequence[str], rows: Mapping[tuple[int, ...], dict[str, str | int]]
) -> tuple[str, ...]:
    """Add the count and total size of objects to the rows of their parents; return the headings."""
    size = next(name for name in SIZES if name in _heading(one.table))
    count, total = f"{one.name}_count", f"{one.name}_{size}"
    for known in rows.values():
        known |= {count: 0, total: 0}
    for row in _rows(one.table):
        if row["parent"]:
            known = rows[tuple(int(row["parent" if key == "label" else key]) for key in keys)]
            known |= {count: int(known[count]) + 1, total: int(known[total]) + int(row[size])}
    return count, total


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


def cells(column: AnyArray) -> Sequence[str]:
    """Return the text of each value; formatting all fractions at once is four times as fast."""
    if np.asarray(column).dtype.kind != "f":
        return list(map(str, np.asarray(column).tolist()))
    numbers = np.asarray(column, np.float64)
    values = numbers.tolist()
    cells = (f"%.{DIGITS}g\n" * len(values) % tuple(values)).split("\n")[:-1]
    for k in np.flatnonzero((numbers == 0) | ~(np.abs(numbers) < 10**DIGITS)):
        cells[k] = _cell(values[k])
    return cells


def _cell(number: float) -> str:
    if number.is_integer() and abs(number) <= _MOST_WHOLE:
        return str(int(number))  # sums of counts stay integers
    return f"{number:.{DIGITS}g}" if math.isfinite(number) else ""


def to_digits(column: AnyArray) -> AnyArray:
    """Round fractions to the digits of the CSV, so that all formats hold the same numbers."""
    return np.array([cell or "nan" for cell in cells(column)], np.float64)


GROUP_ROWS = 2**16
"""Rows per row group of a Parquet file, whatever the size of the parts that are written."""


def write_parquet(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    """Write a Parquet table with one row per object; unknown values (NaN, empty text) are null.

    Integers are int64, other numbers float64 with as many digits as in the CSV.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : one or more tables with the same headings, written one below the other: heading ->
        column, all columns of one length

    Raises
    ------
    ValueError
        The columns of a table differ in length, or the tables differ in their headings.
    """
    with whole_file(path) as temporary:
        _write_groups(temporary, map(_arrow_table, tables))


def join_parquet(path: Path, tables: Mapping[Path, Mapping[str, str | float]]) -> None:
    """Concatenate Parquet tables by rows; columns that a table lacks are null in its rows.

    A prepended column replaces a column of the same name.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    tables : Parquet file -> heading and value of the columns to prepend to its rows
    """
    import pyarrow as pa
    from pyarrow import parquet

    first = {
        name: pa.string() if isinstance(value, str) else pa.float64()
        for columns in tables.values()
        for name, value in columns.items()
    }
    schemas = [parquet.read_schema(table) for table in tables]
    schema = pa.unify_schemas(
        [pa.schema(list(first.items())), *schemas],
        promote_options="permissive",
    )

    def parts() -> Iterator[Any]:
        for table, columns in tables.items():
            with parquet.ParquetFile(table) as file:
                for batch in file.iter_batches(GROUP_ROWS):
                    yield _with_columns(pa.Table.from_batches([batch]), columns, schema)

    with whole_file(path) as temporary:
        _write_groups(temporary, parts(), schema)


def _with_columns(part: Any, columns: Mapping[str, str | float], schema: Any) -> Any:  # noqa: ANN401
    import pyarrow as pa

    def column(name: str, kind: Any) -> Any:  # noqa: ANN401  (pyarrow has no types)
        if name in columns:
            known = columns[name] if columns[name] != "" else None
            return pa.array([known] * len(part), kind, from_pandas=True)  # which makes NaN null
        if name in part.column_names:
            return part[name].cast(kind)
        return pa.nulls(len(part), kind)

    return pa.table([column(field.name, field.type) for field in schema], schema=schema)


def _arrow_table(table: Mapping[str, AnyArray]) -> Any:  # noqa: ANN401  (pyarrow has no types)
    import pyarrow as pa

    return pa.table({name: _arrow_array(np.asarray(column)) for name, column in table.items()})


def _arrow_array(column: AnyArray) -> Any:  # noqa: ANN401  (pyarrow has no types)
    import pyarrow as pa

    kinds = {"i": pa.int64(), "u": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    kind = kinds.get(column.dtype.kind)
    if kind is None:
        return pa.array([str(value) or None for value in column], pa.string())
    if column.dtype.kind in "iu":
        column = column.astype(np.int64)
    if column.dtype.kind == "f":
        column = to_digits(column)
    return pa.array(column, kind, from_pandas=True)  # which makes NaN null


def _write_groups(path: Path, parts: Iterable[Any], schema: Any = None) -> None:  # noqa: ANN401
    """Write parts in row groups of a fixed size, so that equal rows give equal bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    parts = iter(parts)
    held = next(parts, None)
    if held is None and schema is None:
        raise ValueError("there are no tables")
    held = schema.empty_table() if held is None else held
    with parquet.ParquetWriter(path, held.schema, compression="zstd") as writer:
        for part in parts:
            if part.schema != held.schema:
                raise ValueError(
                    f"a table has the columns {part.schema}, but the first table has {held.schema}"
                )
            held = pa.concat_tables([held, part])
            while len(held) > GROUP_ROWS:
                writer.write_table(held.slice(0, GROUP_ROWS), GROUP_ROWS)
                held = held.slice(GROUP_ROWS)
        writer.write_table(held, GROUP_ROWS)
