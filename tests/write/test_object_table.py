from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bmz.base.arrays import AnyArray
from bmz.image.pixels import Pixels
from bmz.process.measure import measure_objects
from bmz.write import tables as table_module
from bmz.write.tables import write_objects


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
    nothing = Pixels(np.zeros((4, 5), np.uint8), ("y", "x"))

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


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (12345678901.0, "12345678901"),
        (-4294967295.0 * 65535, "-281470681677825"),
        (2.0**53, "9007199254740992"),
        (2.0**54, "1.801439851e+16"),
        (1e300, "1e+300"),
        (1e-7, "1e-07"),
        (-0.0, "0"),
        (1 / 3, "0.3333333333"),
        (-np.inf, ""),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.float16(0.5), "0.5"),
        (np.int8(-7), "-7"),
    ],
)
def test_counts_stay_whole_and_other_numbers_have_ten_digits(
    value: float, cell: str, tmp_path: Path
) -> None:
    write_objects(tmp_path / "a.csv", [{"label": np.arange(1, 2), "x": np.array([value])}])

    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == f"label,x\n1,{cell}\n"


def test_pandas_reads_the_table_back_with_names_that_need_quotes(tmp_path: Path) -> None:
    columns: dict[str, AnyArray] = {
        "label": np.array([1, 2**40]),
        'mean_"GFP", 488': np.array([0.25, np.nan]),
        "mean_µ\nm": np.array([1e-9, 65535.5]),
        "well": np.array(["A,1", 'B"2']),
    }

    write_objects(tmp_path / "a.csv", [columns])

    found = pd.read_csv(tmp_path / "a.csv")
    assert list(found.columns) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name].to_numpy(), column)


@pytest.mark.parametrize("count", [4095, 4096, 4097, 8192])
def test_no_row_is_lost_between_the_parts_that_are_written_at_once(
    count: int, tmp_path: Path
) -> None:
    write_objects(tmp_path / "a.csv", [{"label": np.arange(count)}] * 2)

    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["label", *map(str, range(count)), *map(str, range(count))]


def test_a_table_that_fails_half_way_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old", encoding="utf-8")
    tables = ({"label": np.arange(2), "x": np.arange(wide)} for wide in (2, 3))

    with pytest.raises(ValueError, match="longer"):
        write_objects(tmp_path / "a.csv", tables)

    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["old"]
