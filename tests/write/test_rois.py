"""ROIs of ImageJ give back the mask, pixel by pixel, and name label, plane and frame."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from roifile import ROI_TYPE, ImagejRoi, roiread
from skimage.draw import polygon2mask
from tests.write.parts import ArrayResult

from bmz.base.arrays import AnyArray
from bmz.image.shapes import painted, read_shapes
from bmz.write.rois import write_rois


def ragged(seed: int, shape: tuple[int, ...], count: int) -> AnyArray:
    """Draw objects with holes and several pieces."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.7, np.kron(rng.integers(0, count, (6, 6)), _block), 0)


_block = np.ones((7, 5), np.int32)


def written(path: Path, axes: str, mask: AnyArray) -> list[ImagejRoi]:
    write_rois(ArrayResult(axes, mask).as_result(), path)
    rois = roiread(path)
    assert isinstance(rois, list)
    return rois


def filled(roi: ImagejRoi, shape: tuple[int, ...]) -> AnyArray:
    inside = np.zeros(shape, np.bool_)
    for ring in roi.coordinates(multi=True):
        inside ^= polygon2mask(shape, np.asarray(ring)[:, ::-1] - 0.5)
    return inside


def test_roifile_reads_back_the_mask(tmp_path: Path) -> None:
    mask = ragged(0, (42, 30), 9)

    rois = written(tmp_path / "a.rois.zip", "yx", mask)

    drawn = np.zeros_like(mask)
    for roi in rois:
        drawn[filled(roi, mask.shape)] = int(roi.name)
    assert np.array_equal(drawn, mask)
    assert any(roi.composite for roi in rois)


def test_an_object_in_one_piece_is_a_polygon_as_the_wand_traces_it(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.int32)
    mask[2:5, 3:7] = 8

    (roi,) = written(tmp_path / "a.zip", "yx", mask)

    assert (roi.name, roi.roitype, roi.composite) == ("8", ROI_TYPE.TRACED, False)
    assert (roi.left, roi.top, roi.right, roi.bottom) == (3, 2, 7, 5)
    assert sorted(map(tuple, np.asarray(roi.coordinates()).tolist())) == [
        (3, 2),
        (3, 5),
        (7, 2),
        (7, 5),
    ]
    assert (roi.position, roi.c_position, roi.z_position, roi.t_position) == (0, 0, 0, 0)


@pytest.mark.parametrize("axes", ["tzyx", "zyx", "tyx"])
def test_planes_and_frames_are_stated_from_one_and_read_back(axes: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (2, 3, 6, 6)[-len(axes) :]).astype(np.int32)

    rois = written(tmp_path / "a.zip", axes, mask)

    assert len({roi.name for roi in rois}) == len(rois)
    assert {roi.z_position for roi in rois} == ({1, 2, 3} if "z" in axes else {0})
    sizes = dict(zip(axes, mask.shape, strict=True))
    shapes = read_shapes(tmp_path / "a.zip")
    assert np.array_equal(painted(shapes.shapes, sizes), mask)


def test_what_lies_beyond_the_whole_numbers_of_imagej_is_told_in_fractions(tmp_path: Path) -> None:
    mask = np.zeros((2, 70_000), np.int32)
    mask[:, 40_000:40_003], mask[:, 65_000:65_004] = 1, 2

    near, far = written(tmp_path / "a.zip", "yx", mask)

    assert not near.subpixelresolution
    assert far.subpixelresolution
    assert [np.min(roi.coordinates(), axis=0)[0] for roi in (near, far)] == [40_000, 65_000]
    shapes = read_shapes(tmp_path / "a.zip").shapes
    assert np.array_equal(painted(shapes, {"y": 2, "x": 70_000}), mask)


def test_the_bytes_are_those_that_imagej_decodes(tmp_path: Path) -> None:
    # offsets as in its class RoiDecoder: version 4, type 6, top to right 8, corners 16, size 36
    mask = ragged(1, (42, 30), 5)
    write_rois(ArrayResult("yx", mask).as_result(), tmp_path / "a.zip")

    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert all(entry.date_time[0] == 1980 for entry in archive.infolist())
        for name in archive.namelist():
            content = archive.read(name)
            assert content[:4] == b"Iout"
            kind, size = content[6], struct.unpack(">i", content[36:40])[0]
            assert (kind, size > 0) in {(8, False), (1, True)}
            if size:
                path = struct.unpack(f">{size}f", content[64 : 64 + 4 * size])
                assert path[0] == 0
                assert path[-1] == 4


def test_a_mask_without_objects_gives_an_empty_archive(tmp_path: Path) -> None:
    write_rois(ArrayResult("yx", np.zeros((3, 3), np.int32)).as_result(), tmp_path / "a.zip")

    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == []
