"""The wells and fields of a plate are listed as its metadata say, or it is refused with a word."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from bmz.image.faults import ImageUnreadable
from bmz.image.series import PlateField, plate_fields


def node(folder: Path, ome: object, kind: str = "group") -> Path:
    """Write the metadata of a Zarr 3 group that says `ome` of images."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"zarr_format": 3, "node_type": kind, "attributes": {"ome": ome}}
    (folder / "zarr.json").write_text(json.dumps(words))
    return folder


def plate(folder: Path, wells: object) -> Path:
    return node(folder, {"version": "0.5", "plate": {"wells": wells}})


def well(folder: Path, images: object) -> Path:
    return node(folder, {"version": "0.5", "well": {"images": images}})


def test_wells_and_fields_come_in_the_order_of_the_metadata(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p.zarr", [{"path": "B/10"}, {"path": "A/2"}])
    well(folder / "B/10", [{"path": "1"}, {"path": "0"}])
    well(folder / "A/2", [{"path": "zero"}])

    fields = plate_fields(folder)

    assert fields == (
        PlateField(folder, "B", "10", "1"),
        PlateField(folder, "B", "10", "0"),
        PlateField(folder, "A", "2", "zero"),
    )
    assert [field.well for field in fields] == ["B10", "B10", "A2"]
    assert fields[0].within == PurePosixPath("B/10/1")
    assert fields[0].path == folder / "B" / "10" / "1"


def test_a_well_that_was_not_imaged_is_one_empty_field(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p.zarr", [{"path": "A/1"}, {"path": "A/2"}])
    well(folder / "A/2", [{"path": "0"}])
    (folder / "A/1").mkdir()

    fields = plate_fields(folder)

    assert fields == (PlateField(folder, "A", "1", ""), PlateField(folder, "A", "2", "0"))
    assert fields[0].path == folder / "A" / "1"


def test_a_well_of_no_images_and_a_plate_of_no_wells_have_no_fields(tmp_path: Path) -> None:
    empty = plate(tmp_path / "empty.zarr", [])
    folder = plate(tmp_path / "p.zarr", [{"path": "A/1"}])
    well(folder / "A/1", [])

    assert plate_fields(empty) == ()
    assert plate_fields(folder) == ()


def test_slashes_around_the_path_of_a_well_say_nothing(tmp_path: Path) -> None:
    folder = plate(tmp_path / "p.zarr", [{"path": "/A/1/"}])
    well(folder / "A/1", [{"path": "0/"}])

    assert plate_fields(folder) == (PlateField(folder, "A", "1", "0"),)


@pytest.mark.parametrize("wells", [[5], ["A/1"], [None], [{}], [{"path": "A/1"}, {"row": 0}]])
def test_a_well_without_a_path_is_never_left_out_silently(tmp_path: Path, wells: object) -> None:
    folder = plate(tmp_path / "p.zarr", wells)
    well(folder / "A/1", [{"path": "0"}])

    with pytest.raises(ImageUnreadable) as caught:
        plate_fields(folder)

    assert caught.value.message == f"'{folder}' is a plate whose wells lack a path"


@pytest.mark.parametrize(
    ("wells", "why"),
    [
        (None, "is a plate without a list of wells"),
        ({"path": "A/1"}, "is a plate without a list of wells"),
        ([{"path": "A/1/0"}], "has a well 'A/1/0', which is not a ROW/COLUMN"),
        ([{"path": "../1"}], "has a well '../1', which is not a ROW/COLUMN"),
        ([{"path": "A/.."}], "has a well 'A/..', which is not a ROW/COLUMN"),
        ([{"path": ""}], "has a well '', which is not a ROW/COLUMN"),
        ([{"path": 7}], "has a well '7', which is not a ROW/COLUMN"),
    ],
)
def test_wells_that_are_no_row_and_column_are_told_by_name(
    tmp_path: Path, wells: object, why: str
) -> None:
    folder = plate(tmp_path / "p.zarr", wells)

    with pytest.raises(ImageUnreadable) as caught:
        plate_fields(folder)

    assert caught.value.message == f"'{folder}' {why}"


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ([{"path": "a/b"}], "names a field 'a/b' in its well 'A/1'"),
        ([{"path": ".."}], "names a field '..' in its well 'A/1'"),
        ([{"path": "."}], "names a field '.' in its well 'A/1'"),
        ([{"acquisition": 0}], "is a plate whose images lack a path"),
    ],
)
def test_fields_that_are_no_folder_of_their_well_are_told_by_name(
    tmp_path: Path, images: object, why: str
) -> None:
    folder = plate(tmp_path / "p.zarr", [{"path": "A/1"}])
    well(folder / "A/1", images)

    with pytest.raises(ImageUnreadable) as caught:
        plate_fields(folder)

    assert caught.value.message == f"'{folder}' {why}"


@pytest.mark.parametrize("ome", [{"version": "0.5"}, {"well": 3}, "text", {"plate": {}}])
def test_a_group_that_says_nothing_of_a_well_is_none(tmp_path: Path, ome: Any) -> None:
    folder = plate(tmp_path / "p.zarr", [{"path": "A/1"}])
    node(folder / "A/1", ome)

    with pytest.raises(ImageUnreadable, match="has a well 'A/1' without the metadata of a well"):
        plate_fields(folder)


@pytest.mark.parametrize("ome", [{"version": "0.5"}, {"plate": "p"}, {"plate": None}, "text", []])
def test_a_group_that_says_nothing_of_a_plate_is_none(tmp_path: Path, ome: Any) -> None:
    assert plate_fields(node(tmp_path / "a.zarr", ome)) is None


def test_a_folder_of_anything_but_zarr_is_no_plate(tmp_path: Path) -> None:
    (tmp_path / "A/1").mkdir(parents=True)
    (tmp_path / "A/1/0.tif").touch()

    assert plate_fields(tmp_path) is None


def test_a_plate_whose_metadata_are_cut_short_is_an_error_and_not_merely_no_plate(
    tmp_path: Path,
) -> None:
    folder = plate(tmp_path / "p.zarr", [])
    text = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(text[:-9])

    with pytest.raises(ImageUnreadable, match="is a damaged OME-Zarr folder"):
        plate_fields(folder)
