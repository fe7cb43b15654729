"""Files of outlines are read as shapes, and drawn as label masks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from bmz.base.arrays import AnyArray
from bmz.image.faults import ImageUnreadable
from bmz.image.shapes import Shape, painted, read_shapes


def polygon(name: str, corners: list[tuple[float, float]], **more: int) -> tuple[str, bytes]:
    points = np.array(corners)
    roi = ImagejRoi.frompoints(points, name=name, **more)
    return name, roi.tobytes()


def archive(path: Path, rois: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in rois:
            file.writestr(f"{name}.roi", content)
    return path


def square(left: int, top: int, side: int) -> list[tuple[float, float]]:
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


def test_rois_keep_their_numbers_and_their_planes(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.zip",
        [polygon("7", square(1, 2, 3), z=0, t=4), polygon("12-z3", square(5, 0, 2), z=2, c=1)],
    )

    first, second = read_shapes(path).shapes

    assert (first.number, first.z, first.t, first.c) == (7, 0, 4, None)
    assert (second.number, second.z, second.t, second.c) == (12, 2, None, 1)
    assert first.box == (1, 2, 4, 5)
    mask = painted([first, second], {"t": 5, "z": 3, "y": 6, "x": 8})
    assert np.argwhere(mask == 7).min(axis=0).tolist() == [4, 0, 2, 1]
    assert np.count_nonzero(mask == 7) == 9
    assert np.count_nonzero(mask[:, 2] == 12) == 5 * 4  # in every frame, since it names none


def test_rois_whose_names_are_no_numbers_are_counted(tmp_path: Path) -> None:
    # names that ImageJ gives: the row and the column of the middle
    path = archive(
        tmp_path / "a.zip",
        [polygon("0012-0034", square(0, 0, 2)), polygon("nucleus", square(4, 4, 2))],
    )

    assert [shape.number for shape in read_shapes(path).shapes] == [1, 2]


def test_boxes_ovals_points_and_lines_are_told_apart(tmp_path: Path) -> None:
    box = ImagejRoi(roitype=ROI_TYPE.RECT, left=2, top=1, right=6, bottom=4)
    oval = ImagejRoi(roitype=ROI_TYPE.OVAL, left=0, top=0, right=20, bottom=20)
    points = ImagejRoi.frompoints([[3, 4], [5, 6]])
    points.roitype = ROI_TYPE.POINT
    line = ImagejRoi(roitype=ROI_TYPE.LINE, x1=1.5, y1=2, x2=7, y2=8)
    names = [("box", box), ("oval", oval), ("points", points), ("line", line)]
    path = archive(tmp_path / "a.zip", [(name, roi.tobytes()) for name, roi in names])

    shapes = read_shapes(path).shapes

    assert [shape.kind for shape in shapes] == ["box", "polygon", "points", "line"]
    assert [shape.has_area for shape in shapes] == [True, True, False, False]
    assert shapes[0].box == (2, 1, 6, 4)
    assert shapes[2].rings[0].tolist() == [[3.5, 4.5], [5.5, 6.5]]
    disk = painted([shapes[1]], {"y": 20, "x": 20}) > 0
    y, x = np.mgrid[:20, :20] + 0.5
    assert np.array_equal(disk, (y - 10) ** 2 + (x - 10) ** 2 < 100)


def test_a_roi_alone_and_one_with_a_hole_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.roi"
    ring = [0, 0, 0, 1, 5, 0, 1, 5, 5, 1, 0, 5, 4, 0, 1, 1, 1, 1, 3, 1, 3, 3, 1, 3, 1, 4]
    roi = ImagejRoi(
        roitype=ROI_TYPE.RECT, right=5, bottom=5, shape_roi_size=len(ring), name="4",
        multi_coordinates=np.array(ring, np.float32),
    )  # fmt: skip
    path.write_bytes(roi.tobytes())

    (shape,) = read_shapes(path).shapes

    assert (shape.number, len(shape.rings)) == (4, 2)
    mask = painted([shape], {"y": 5, "x": 5})
    expected = np.full((5, 5), 4)
    expected[1:3, 1:3] = 0
    assert np.array_equal(mask, expected)


def test_subpixel_outlines_hold_the_pixels_whose_middle_is_inside(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", [polygon("1", [(0.6, 0.4), (3.4, 0.4), (3.4, 2.6)])])

    (shape,) = read_shapes(path).shapes

    assert painted([shape], {"y": 3, "x": 4}).tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("content", [b"", b"Iout", b"no roi at all" * 20])
def test_what_is_no_roi_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.roi"
    path.write_bytes(content)

    with pytest.raises(ImageUnreadable, match="damaged ImageJ ROI"):
        read_shapes(path)


def test_an_archive_without_rois_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.txt", "")

    with pytest.raises(ImageUnreadable, match="contains no ImageJ ROI"):
        read_shapes(tmp_path / "a.zip")


def filled_by_hand(corners: AnyArray, height: int, width: int) -> AnyArray:
    """Ask of each pixel how many edges lie to the left of its middle."""
    inside = np.zeros((height, width), np.bool_)
    for y, x in np.ndindex(height, width):
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            middle = y + 0.5
            if (y0 <= middle) != (y1 <= middle):
                inside[y, x] ^= x0 + (middle - y0) / (y1 - y0) * (x1 - x0) <= x + 0.5
    return inside


def test_any_polygon_is_filled_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = rng.uniform(-3, 15, (7, 2))

        mask = painted([Shape(1, "", "polygon", (corners,))], {"y": 12, "x": 11})

        assert np.array_equal(mask > 0, filled_by_hand(corners, 12, 11))


def test_the_last_of_shapes_that_overlap_has_their_pixels() -> None:
    first, second = (np.array(square(at, 0, 4), np.float64) for at in (0, 2))

    mask = painted([Shape(k, "", "polygon", (r,)) for k, r in ((9, first), (3, second))],
                   {"y": 1, "x": 6})  # fmt: skip

    assert mask.tolist() == [[9, 9, 3, 3, 3, 3]]


def test_options_of_other_programs_do_not_matter(tmp_path: Path) -> None:
    roi = ImagejRoi.frompoints(np.array(square(1, 1, 2)), name="5")
    roi.options |= ROI_OPTIONS.SHOW_LABELS | ROI_OPTIONS.OVERLAY_BOLD
    path = archive(tmp_path / "a.zip", [("5", roi.tobytes())])

    assert read_shapes(path).sizes() == {"t": 1, "z": 1, "y": 3, "x": 3}
