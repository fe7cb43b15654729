"""GeoJSON is what QuPath imports, and gives back the mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.write.parts import ArrayResult
from tests.write.test_rois import ragged

from bmz.base.arrays import AnyArray
from bmz.image.shapes import painted, read_shapes
from bmz.process.matching import Overlap
from bmz.write.coco import write_coco
from bmz.write.geojson import write_geojson
from bmz.write.result import Result


def table_of(mask: AnyArray, **columns: AnyArray) -> dict[str, AnyArray]:
    labels = np.unique(mask[mask > 0])
    return {"label": labels, **columns}


def written(path: Path, axes: str, mask: AnyArray, **columns: AnyArray) -> Any:
    table = table_of(mask, **columns)
    write_geojson(ArrayResult(axes, mask, table, {}, {"y": 0.5, "x": 0.25}).as_result(), path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_shapely_reads_back_the_mask(tmp_path: Path) -> None:
    shapely = pytest.importorskip("shapely")
    from shapely.geometry import shape

    mask = ragged(0, (42, 30), 9)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    drawn = np.zeros_like(mask)

    for feature in written(tmp_path / "a.geojson", "yx", mask)["features"]:
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        inside = shapely.contains_xy(geometry, x, y)
        drawn[inside] = int(feature["properties"]["name"])

    assert np.array_equal(drawn, mask)
    assert Overlap.of(drawn, mask).matching(0.9).f1 == 1


def test_rings_are_closed_and_run_as_rfc_7946_asks(tmp_path: Path) -> None:
    mask = np.ones((6, 6), np.int32)
    mask[2:4, 2:4] = 0

    (feature,) = written(tmp_path / "a.geojson", "yx", mask)["features"]

    outer, hole = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "Polygon"
    for ring, sign in ((outer, 1), (hole, -1)):
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert np.sign(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) == sign


def test_a_feature_has_the_words_that_qupath_reads(tmp_path: Path) -> None:
    mask = np.zeros((4, 8), np.int32)
    mask[1, 1], mask[2, 4] = 1, 2
    document = written(
        tmp_path / "a.geojson", "yx", mask,
        **{
            "well": np.array(["A1", "A1"]),
            "area_um2": np.array([12.5, 0.25]),
            "intensity_mean_dapi": np.array([np.nan, 7.0]),
            "touches_border": np.array([True, False]),
            "class": np.array(["tumour", "stroma"]),
        },
    )  # fmt: skip

    first, second = (feature["properties"] for feature in document["features"])

    assert document["type"] == "FeatureCollection"
    assert (first["objectType"], first["name"], first["isLocked"]) == ("detection", "1", False)
    assert first["measurements"] == {"Area µm^2": 12.5, "Touches border": 1}
    assert second["measurements"]["dapi: Mean"] == 7
    assert first["classification"]["name"] == "tumour"
    assert all(0 <= part <= 255 for part in first["classification"]["color"])
    assert first["classification"]["color"] != second["classification"]["color"]
    assert first["metadata"] == {"well": "A1"}
    assert document["bmz"]["pixel_um"] == {"y": 0.5, "x": 0.25}


def test_without_classes_there_is_no_classification(tmp_path: Path) -> None:
    (feature,) = written(tmp_path / "a.geojson", "yx", np.ones((2, 2), np.int32))["features"]

    assert "classification" not in feature["properties"]


@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx"])
def test_bmz_reads_back_the_mask_in_all_planes(axes: str, tmp_path: Path) -> None:
    mask = np.stack([ragged(k, (42, 30), 9) for k in range(3)])
    mask = mask if len(axes) > 2 else mask[0]

    written(tmp_path / "a.geojson", axes, mask)

    found = read_shapes(tmp_path / "a.geojson")
    assert found.size == (42, 30)
    assert np.array_equal(painted(found.shapes, dict(zip(axes, mask.shape, strict=True))), mask)


def test_a_mask_without_objects_is_a_collection_without_features(tmp_path: Path) -> None:
    assert written(tmp_path / "a.geojson", "yx", np.zeros((3, 3), np.int32))["features"] == []


@pytest.mark.parametrize("write", [write_geojson, write_coco])
def test_names_and_settings_that_json_does_not_know_are_no_hindrance(
    write: Callable[[Result, Path], None], tmp_path: Path
) -> None:
    mask = np.ones((2, 2), np.int32)
    record = {"image": "a\udcff.tif", "recipe": {"parameters": {"threshold": float("nan")}}}

    write(ArrayResult("yx", mask, table_of(mask), record).as_result(), tmp_path / "a.json")

    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=pytest.fail)
    about = document.get("bmz") or document["info"]
    assert about["image"] == record["image"]
    assert about["recipe"] == {"parameters": {"threshold": None}}


def test_an_object_without_a_class_has_no_classification(tmp_path: Path) -> None:
    mask = np.array([[1, 2]], np.int32)

    document = written(tmp_path / "a.geojson", "yx", mask, **{"class": np.array(["a", ""])})

    properties = [feature["properties"] for feature in document["features"]]
    assert ["classification" in one for one in properties] == [True, False]


def test_an_export_of_qupath_is_read(tmp_path: Path) -> None:
    # QuPath writes a list of features as well, and names where somebody has given some
    square = [[1.5, 1], [4.5, 1], [4.5, 3], [1.5, 3], [1.5, 1]]
    plane = {"c": -1, "z": 2, "t": 0}
    feature = {
        "type": "Feature", "id": "88", "properties": {"objectType": "annotation"},
        "geometry": {"type": "Polygon", "coordinates": [square], "plane": plane},
    }  # fmt: skip
    (tmp_path / "a.geojson").write_text(json.dumps([feature, feature]), encoding="utf-8")

    first, second = read_shapes(tmp_path / "a.geojson").shapes

    assert [(s.number, s.z, s.t, s.c) for s in (first, second)] == [
        (1, 2, 0, None),
        (2, 2, 0, None),
    ]
    assert np.count_nonzero(painted([first], {"z": 3, "y": 5, "x": 5})) == 6
