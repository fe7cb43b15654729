from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from bmz.process.measure import measure_objects
from bmz.write import table as table_module
from bmz.write.table import write_objects


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_comes_back_cell_by_cell(tmp_path: Path) -> None:
    table = {
        "label": np.array([1, 2]),
        "score": np.array([0.5, np.nan], np.float32),
        "intensity_sum_a,b": np.array([123456789.0, 0.1]),
        "touches_border": np.array([True, False]),
    }

    write_objects(tmp_path / "a.csv", [table])

    assert rows(tmp_path / "a.csv") == [
        {"label": "1", "score": "0.5", "intensity_sum_a,b": "123456789", "touches_border": "True"},
        {"label": "2", "score": "", "intensity_sum_a,b": "0.1", "touches_border": "False"},
    ]


def test_without_objects_the_heading_stands_alone(tmp_path: Path) -> None:
    nothing = xr.DataArray(np.zeros((4, 5), np.uint8), dims=("y", "x"))

    write_objects(tmp_path / "a.csv", [measure_objects(nothing, nothing)])

    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("label,centroid_y_px,")


def test_columns_of_different_lengths_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_objects(tmp_path / "a.csv", [{"a": np.arange(2), "b": np.arange(1)}])

    assert list(tmp_path.iterdir()) == []


def test_tables_are_written_one_below_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_ROWS_AT_ONCE", 2)
    tables = [{"label": np.arange(1, 4), "x": np.array([0.5, np.nan, 2])}]
    tables += [{"label": np.array([4]), "x": np.array([7.0])}]

    write_objects(tmp_path / "a.csv", iter(tables))

    assert (tmp_path / "a.csv").read_text() == "label,x\n1,0.5\n2,\n3,2\n4,7\n"


def test_tables_of_other_headings_are_refused(tmp_path: Path) -> None:
    tables = [{"label": np.arange(1)}, {"number": np.arange(1)}]

    with pytest.raises(ValueError, match="number"):
        write_objects(tmp_path / "a.csv", tables)

    assert list(tmp_path.iterdir()) == []
