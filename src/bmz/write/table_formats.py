"""The formats of tables: how one is written, and how the tables of several images are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.errors import CouldNotTell

if TYPE_CHECKING:
    from bmz.base.arrays import AnyArray


@dataclass(frozen=True)
class TableFormat:
    """One format of tables.

    Parameters
    ----------
    ending : of its files
    write : takes a path and the tables that are written one below the other
    join : takes a path and tables of this format -> columns that their rows get in front
    package : that must be installed; empty where bmz brings what it needs
    """

    ending: str
    write: Callable[[Path, Iterable[Mapping[str, AnyArray]]], None]
    join: Callable[[Path, Mapping[Path, Mapping[str, str]]], None]
    package: str = ""


class TableFormatUnusable(CouldNotTell):
    """A package that writes tables of a format is not installed."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(
            f"--table {name} needs the package {package}, which is not installed",
            hint=f"pip install 'bmz[{name}]', or leave out --table {name}",
            code="table.no-package",
        )


def refuse_unusable(names: Iterable[str]) -> None:
    """See that the packages of formats are installed.

    Raises
    ------
    TableFormatUnusable
        One is not.
    """
    for name in sorted(names):
        package = TABLE_FORMATS[name].package
        if package and find_spec(package) is None:
            raise TableFormatUnusable(name, package)


# the modules of writers are imported when a table is written, so that --help stays quick


def _write_csv(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    from bmz.write.tables import write_objects

    write_objects(path, tables)


def _join_csv(path: Path, tables: Mapping[Path, Mapping[str, str]]) -> None:
    from bmz.write.tables import join_objects

    join_objects(path, tables)


def _write_parquet(path: Path, tables: Iterable[Mapping[str, AnyArray]]) -> None:
    from bmz.write.tables import write_parquet

    write_parquet(path, tables)


def _join_parquet(path: Path, tables: Mapping[Path, Mapping[str, str]]) -> None:
    from bmz.write.tables import join_parquet

    join_parquet(path, tables)


CSV = "csv"
"""The format that is written where none is named."""

TABLE_FORMATS: Mapping[str, TableFormat] = {
    CSV: TableFormat(".csv", _write_csv, _join_csv),
    "parquet": TableFormat(".parquet", _write_parquet, _join_parquet, package="pyarrow"),
}
"""Every format that ``--table`` takes."""
