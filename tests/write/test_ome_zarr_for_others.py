"""Other programs read in our OME-Zarr what was written; plates are plates to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from tests.write.parts import ArrayMask

from bmz.base.arrays import AnyArray
from bmz.image.series import PlateField, plate_fields
from bmz.write import ome_zarr
from bmz.write.ome_zarr import (
    LabelStore,
    opened_array,
    scratch_array,
    write_label_store,
    write_plate,
)


def written(folder: Path, pixels: Any, axes: str = "yx", **um: float) -> Path:
    write_label_store(folder, ArrayMask(axes, np.asarray(pixels)), um, {})
    return folder


def arrays(folder: Path) -> list[Any]:
    """Give the arrays of the label image, largest first, in the order of its metadata."""
    group: Any = zarr.open_group(folder / "labels" / "objects", mode="r")
    (image,) = group.attrs["ome"]["multiscales"]
    return [group[dataset["path"]] for dataset in image["datasets"]]


def image_of(folder: Path, path: str = "") -> Any:
    """Give the image as yaozarrs sees it."""
    told: Any = yaozarrs.open_group(str(folder / path)).ome_metadata()
    (image,) = told.multiscales
    return image


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        (0, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32"),
        (2**32 - 1, "uint32"), (2**32, "uint64"),
    ],
)  # fmt: skip
def test_the_highest_label_decides_the_dtype(
    most: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_zarr, "MOST_COLOURS", 3)

    (array,) = arrays(written(tmp_path / "a", [[0, most, 0]]))

    assert array[...].tolist() == [[0, most, 0]]
    assert str(array.dtype) == dtype


def test_axes_have_their_order_type_unit_and_length(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)

    folder = written(tmp_path / "a", pixels, "tzyx", z=2.0, x=0.25)

    (array,) = arrays(folder)
    np.testing.assert_array_equal(array[...], pixels)
    assert array.metadata.dimension_names == ("t", "z", "y", "x")
    assert array.chunks == (1, 1, 4, 5)
    for path in ("", "labels/objects"):
        image = image_of(folder, path)
        assert [(a.name, a.type, a.unit) for a in image.axes] == [
            ("t", "time", None), ("z", "space", "micrometer"), ("y", "space", None),
            ("x", "space", "micrometer"),
        ]  # fmt: skip
        (scale,) = image.datasets[0].coordinateTransformations
        assert scale.scale == [1, 2, 1, 0.25]


def test_the_whole_folder_is_the_image_that_its_labels_are_of(tmp_path: Path) -> None:
    folder = written(tmp_path / "a", np.eye(5, dtype=int))

    top: Any = zarr.open_group(folder, mode="r")
    (dataset,) = image_of(folder).datasets
    np.testing.assert_array_equal(top[dataset.path][...], np.eye(5))
    assert top["labels"].attrs["ome"] == {"version": "0.5", "labels": ["objects"]}
    yaozarrs.validate_zarr_store(str(folder))


@pytest.mark.parametrize(
    ("shape", "shapes", "scales"),
    [
        ((1, 64), [(1, 64)], [[2, 3]]),
        ((1, 65), [(1, 65), (1, 33)], [[2, 3], [2, 6]]),
        (
            (130, 3),
            [(130, 3), (65, 2), (33, 1)],
            [[2, 3], [4, 6], [8, 12]],
        ),
    ],
)
def test_the_pyramid_of_a_narrow_image_keeps_to_its_grid(
    shape: tuple[int, int],
    shapes: list[tuple[int, int]],
    scales: list[list[float]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ome_zarr, "SMALLEST_LEVEL_PX", 64)
    monkeypatch.setattr(ome_zarr, "CHUNK_PX", 32)
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)

    folder = written(tmp_path / "a", pixels, y=2.0, x=3.0)

    found = arrays(folder)
    assert [array.shape for array in found] == shapes
    for number, array in enumerate(found):
        np.testing.assert_array_equal(array[...], pixels[:: 2**number, :: 2**number])
        assert max(array.chunks) <= 32
    transformations = [d.coordinateTransformations for d in image_of(folder).datasets]
    assert [scale.scale for (scale,) in transformations] == scales


@pytest.mark.parametrize(("most", "colours"), [(0, 0), (2, 2), (3, 3), (4, 3)])
def test_colours_are_given_to_the_first_labels_alone(
    most: int, colours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_zarr, "MOST_COLOURS", 3)

    folder = written(tmp_path / "a", [[0, most]])

    told = json.loads((folder / "labels" / "objects" / "zarr.json").read_text(encoding="utf-8"))
    label = told["attributes"]["ome"]["image-label"]
    assert [one["label-value"] for one in label.get("colors", [])] == list(range(1, colours + 1))
    assert ("colors" in label) == (most > 0)  # an empty list of them is not valid
    for one in label.get("colors", []):
        *rgb, alpha = one["rgba"]
        assert (max(rgb), min(rgb), alpha) == (242, 85, 255)  # 0.95, and 0.35 of it, of 255


def test_a_store_may_be_written_region_by_region(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "a", "zyx")

    array = store.create((2, 3, 4), np.dtype(np.uint16))
    array[1, 1:, 2:] = 7
    store.finish(7, {"model": "m"})

    (found,) = arrays(tmp_path / "a")
    wanted = np.zeros((2, 3, 4), np.uint16)
    wanted[1, 1:, 2:] = 7
    np.testing.assert_array_equal(found[...], wanted)
    yaozarrs.validate_zarr_store(str(tmp_path / "a"))


def test_scratch_is_all_0_at_first_and_kept_for_the_next_time(tmp_path: Path) -> None:
    first = scratch_array(tmp_path / "a", (2, 5, 3), np.dtype(np.int32), side=4)
    before: AnyArray = np.asarray(first[...])
    first[1, 2:, :] = -9

    again = scratch_array(tmp_path / "a", (2, 5, 3), np.dtype(np.int32), side=4)

    assert before.tolist() == np.zeros((2, 5, 3)).tolist()
    assert again.chunks == (1, 4, 3)
    again[0, 0, 0] = 1
    found = np.asarray(opened_array(tmp_path / "a")[...])
    assert [found[0, 0, 0], found[1, 2, 0], found[1, 1, 0]] == [1, -9, 0]
    with pytest.raises(ValueError, match=r"read.only"):
        opened_array(tmp_path / "a")[0, 0, 0] = 2


def test_a_plate_is_one_to_other_programs_with_wells_where_they_were(tmp_path: Path) -> None:
    places = [("B", "3", "0"), ("B", "3", "1"), ("A", "10", "0"), ("B", "10", "0")]
    fields = [PlateField(Path("in", "screen 1.zarr"), *place) for place in places]
    folder = tmp_path / "labels.zarr"
    for field in fields:
        written(folder / field.within, np.eye(4, dtype=int))

    write_plate(folder, fields)

    told: Any = yaozarrs.validate_zarr_store(str(folder)).ome_metadata()
    plate = told.plate
    assert (plate.name, plate.field_count) == ("screen 1.zarr", 2)
    rows, columns = ([one.name for one in axis] for axis in (plate.rows, plate.columns))
    assert (rows, columns) == (["B", "A"], ["3", "10"])
    for well in plate.wells:
        assert well.path == f"{rows[well.rowIndex]}/{columns[well.columnIndex]}"
    assert [field.within for field in plate_fields(folder) or ()] == [f.within for f in fields]
