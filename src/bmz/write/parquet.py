"""Tables of objects as Parquet, with the columns that the CSV has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file
from bmz.write.text import DIGITS

GROUP_ROWS = 2**16
"""Rows that are held at once, and that lie together in the file, however the table comes."""


def write_parquet(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    """Write one row per object; what is not known (NaN) is null.

    Whole numbers are int64 and others float64, with the digits that the CSV has.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    tables : one or more that are written one below the other: columns of one length by their
        heading, the same headings in each

    Raises
    ------
    ValueError
        The columns differ in length, or the headings from table to table.
    """
    with whole_file(path) as temporary:
        _write_groups(temporary, map(_arrow_table, tables))


def join_parquet(path: Path, tables: Mapping[Path, Mapping[str, str]]) -> None:
    """Write the rows of tables below each other; a column that a table lacks is null in its rows.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    tables : Parquet file -> heading and value of columns that its rows get in front
    """
    import pyarrow as pa
    from pyarrow import parquet

    first = dict.fromkeys(name for columns in tables.values() for name in columns)
    schemas = [parquet.read_schema(table) for table in tables]
    schema = pa.unify_schemas(
        [pa.schema([(name, pa.string()) for name in first]), *schemas],
        promote_options="permissive",
    )

    def parts() -> Iterator[Any]:
        for table, columns in tables.items():
            with parquet.ParquetFile(table) as file:
                for batch in file.iter_batches(GROUP_ROWS):
                    yield _with_columns(pa.Table.from_batches([batch]), columns, schema)

    with whole_file(path) as temporary:
        _write_groups(temporary, parts(), schema)


def _with_columns(part: Any, columns: Mapping[str, str], schema: Any) -> Any:  # noqa: ANN401
    import pyarrow as pa

    def column(name: str, kind: Any) -> Any:  # noqa: ANN401  (pyarrow has no types)
        if name in columns:
            return pa.array([columns[name] or None] * len(part), kind)
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
        return pa.array([str(value) for value in column], pa.string())
    if column.dtype.kind in "iu":
        column = column.astype(np.int64)
    if column.dtype.kind == "f":  # to the digits of the CSV, so that both hold the same numbers
        column = np.array([float(f"{value:.{DIGITS}g}") for value in column], np.float64)
    return pa.array(column, kind, from_pandas=True)  # which makes NaN null


def _write_groups(path: Path, parts: Iterable[Any], schema: Any = None) -> None:  # noqa: ANN401
    """Write parts in groups of rows of one size, so that equal rows give equal bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    parts = iter(parts)
    held = next(parts, None)
    if held is None and schema is None:
        raise ValueError("no table is given")
    held = schema.empty_table() if held is None else held
    with parquet.ParquetWriter(path, held.schema, compression="zstd") as writer:
        for part in parts:
            if part.schema != held.schema:
                raise ValueError(f"a table has the columns {part.schema}, the first {held.schema}")
            held = pa.concat_tables([held, part])
            while len(held) > GROUP_ROWS:
                writer.write_table(held.slice(0, GROUP_ROWS), GROUP_ROWS)
                held = held.slice(GROUP_ROWS)
        writer.write_table(held, GROUP_ROWS)
