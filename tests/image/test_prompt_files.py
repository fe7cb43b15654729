"""Points, boxes and outlines are read from tables, GeoJSON and ROIs, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.image.prompt_files import (
    Prompt,
    PromptsNotFound,
    PromptsUnreadable,
    PromptsWithoutLength,
    read_prompts,
)

UM = {"y": 0.5, "x": 0.25}


LINE = '[{"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}]'


def read(folder: Path, name: str, text: str) -> tuple[Prompt, ...]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_prompts(folder / name, UM)


@pytest.mark.parametrize(
    "table",
    [
        "x,y\n7,3\n",
        "Y_px; X_px\n3;7\n",
        "\ufeffname\ty_um\tx_um\na\t1.5\t1.75\n",
        "label,y,x,note\n4,3,7,\n",
    ],
)
def test_a_point_is_read_with_any_separator_order_and_unit(table: str, tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, "a.csv", table)

    assert prompt.points.tolist() == [[3, 7]]
    assert prompt.box is None


def test_a_box_has_its_corners_in_any_order_and_may_have_a_point(tmp_path: Path) -> None:
    with_box, both = read(tmp_path, "a.csv", "x0,y0,x1,y1,x,y\n9,8,1,2,,\n1,2,9,8,5,5\n")

    for prompt in (with_box, both):
        assert prompt.box is not None
        assert prompt.box.tolist() == [2, 1, 8, 9]
    assert len(with_box.points) == 0
    assert both.points.tolist() == [[5, 5]]


def test_points_of_one_label_are_one_object_and_planes_part_them(tmp_path: Path) -> None:
    table = "label,x,y,z\n1,5,5,0\n1,6,6,0\n2,7,7,\n1,8,8,1\n"

    prompts = read(tmp_path, "a.csv", table)

    assert [len(prompt.points) for prompt in prompts] == [2, 1, 1]
    assert [dict(prompt.at) for prompt in prompts] == [{"z": 0}, {}, {"z": 1}]
    assert [prompt.name for prompt in prompts] == ["1", "2", "1"]
    assert [prompt.lies_at({"z": 1}) for prompt in prompts] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", "x,y\n1,two\n"),
        ("a.csv", "x,y\n1,nan\n"),
        ("a.csv", "x,y\n1,\n"),
        ("a.csv", "x,y\n"),
        ("a.csv", ""),
        ("a.geojson", "{"),
        ("a.geojson", LINE),
        ("a.json", LINE.replace("LineString", "Strange")),
        ("a.json", "[1]"),
        ("a.roi", "no roi"),
        ("a.zip", "no zip"),
    ],
)
def test_what_holds_no_prompts_is_refused_with_the_columns_to_give(
    name: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(PromptsUnreadable) as caught:
        read(tmp_path, name, text)

    assert caught.value.exit_status == 3
    assert name in str(caught.value)
    assert "x,y" in caught.value.hint


def test_a_file_that_is_not_there_and_a_length_that_nobody_knows_are_told(tmp_path: Path) -> None:
    with pytest.raises(PromptsNotFound, match="no prompt file"):
        read_prompts(tmp_path / "no.csv", UM)
    (tmp_path / "a.csv").write_text("x_um,y_um\n1,2\n", encoding="utf-8")
    with pytest.raises(PromptsWithoutLength, match="um"):
        read_prompts(tmp_path / "a.csv", {})


def test_geojson_counts_from_the_corner_of_the_first_pixel(tmp_path: Path) -> None:
    square = [[2, 3], [7, 3], [7, 5], [2, 5], [2, 3]]
    features: list[dict[str, Any]] = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [4.5, 1.5]}},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}},
        {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]}},
    ]
    document = {"type": "FeatureCollection", "features": features}

    point, outline, *points = read(tmp_path, "a.geojson", json.dumps(document))

    assert point.points.tolist() == [[1, 4]]
    assert outline.mask is not None
    there = np.argwhere(outline.mask) + outline.corner
    assert there.min(axis=0).tolist() == [3, 2]
    assert there.max(axis=0).tolist() == [4, 6]
    assert [prompt.name for prompt in (point, outline, *points)] == ["1", "2", "3", "4"]


def test_masks_of_coco_are_asked_for_with_their_numbers(tmp_path: Path) -> None:
    masks = [{"id": 4, "image_id": 1, "segmentation": {"counts": [3, 2, 3, 2], "size": [5, 4]}}]
    images = [{"id": 1, "height": 5, "width": 4}]

    (prompt,) = read(tmp_path, "a.json", json.dumps({"images": images, "annotations": masks}))

    assert prompt.name == "4"
    assert prompt.mask is not None
    there = np.argwhere(prompt.mask) + prompt.corner
    assert there.tolist() == [[3, 0], [3, 1], [4, 0], [4, 1]]


def test_rois_of_imagej_are_points_boxes_and_outlines_in_their_planes(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    point = roifile.ImagejRoi.frompoints([[4.5, 1.5]])
    point.roitype = roifile.ROI_TYPE.POINT
    outline = roifile.ImagejRoi.frompoints([[2, 3], [7, 3], [7, 5], [2, 5]], position=0)
    outline.z_position = 2
    box = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, left=2, top=3, right=7, bottom=5, n_coordinates=0
    )
    roifile.roiwrite(tmp_path / "rois.zip", [point, outline, box])

    prompts = read_prompts(tmp_path / "rois.zip", {})

    assert np.floor(prompts[0].points + 0.5).tolist() == [[1, 4]]
    assert prompts[1].mask is not None
    there = np.argwhere(prompts[1].mask) + prompts[1].corner
    assert (there.min(axis=0).tolist(), there.max(axis=0).tolist()) == ([3, 2], [4, 6])
    assert dict(prompts[1].at) == {"z": 1}
    assert prompts[2].box is not None
    assert prompts[2].box.tolist() == [3, 2, 4, 6]


def test_a_prompt_lies_in_an_image_up_to_its_last_pixel() -> None:
    sizes = {"y": 10, "x": 20}

    assert Prompt.of_point(9.4, 19.4).lies_within(sizes)
    assert Prompt.of_point(-0.4, 0).lies_within(sizes)
    assert not Prompt.of_point(9.6, 0).lies_within(sizes)
    assert not Prompt.of_point(0, -1).lies_within(sizes)
    assert Prompt.of_box([-5, -5, 8, 8]).lies_within(sizes)
