"""The stars of StarDist as ROIs of ImageJ: corners between pixels, read by roifile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from roifile import ROI_TYPE, ImagejRoi, roiread
from skimage.draw import polygon2mask
from tests.process.ideal_maps import FAMILIES

from bmz.app.run import run
from bmz.app.score import score
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.process.relabel import in_raster_order
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package
from bmz.write.result import PolygonsLacking

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STARDIST = next(family for family in FAMILIES if family.recipe == "stardist")


def discs(shift: int = 0) -> AnyArray:
    """Draw discs of 9 to 14 px, some of which lie over each other or beyond the image."""
    labels = np.zeros((150, 140), np.int32)
    y, x = np.indices(labels.shape)
    places = [(20, 20, 9), (24, 60, 12), (30, 78, 12), (70, 3, 11), (80, 70, 14), (130, 110, 10)]
    for number, (row, column, radius) in enumerate(places, start=1):
        labels[(y - row) ** 2 + (x - column - shift) ** 2 < radius**2] = number
    return in_raster_order(labels).labels


def done(folder: Path, maps: AnyArray, axes: str, **more: Any) -> ImageRun:
    tifffile.imwrite(folder / "a.tif", maps.astype(np.float32), metadata={"axes": axes},
                     ome=True, photometric="minisblack")  # fmt: skip
    channels = maps.shape[axes.index("C")]
    model = write_package(folder / "model", description(channels=channels)).parent
    request = RunRequest(
        str(model), (folder / "a.tif",), folder / "out", recipe="stardist",
        settings={name: str(value) for name, value in STARDIST.parameters.items()},
        save=frozenset({"labels", "rois:subpixel"}),
    )  # fmt: skip
    summary = run(replace(request, **more))
    assert not summary.failed, summary.failed[0].error
    return summary.done[0]


def rois_of(run_of_image: ImageRun) -> list[ImagejRoi]:
    rois = roiread(run_of_image.files["rois:subpixel"])
    assert isinstance(rois, list)
    return rois


def test_stars_have_corners_between_pixels_and_cover_their_labels(tmp_path: Path) -> None:
    image = done(tmp_path, STARDIST.maps(discs()), "CYX")

    labels = tifffile.imread(image.files["labels"])
    rois = rois_of(image)
    overlaps = []
    for roi in rois:
        corners = np.asarray(roi.coordinates())
        # in ImageJ the middle of the first pixel is 0.5
        inside = polygon2mask(labels.shape, corners[:, ::-1] - 0.5)
        own = labels == int(roi.name)
        overlaps.append((inside & own).sum() / (inside | own).sum())
    assert image.files["rois:subpixel"].name == "a.rois-subpixel.zip"
    assert sorted(int(roi.name) for roi in rois) == list(range(1, labels.max() + 1))
    assert {roi.roitype for roi in rois} == {ROI_TYPE.POLYGON}
    assert all(roi.subpixelresolution for roi in rois)
    ends = np.concatenate([np.asarray(roi.coordinates()) for roi in rois])
    assert ends.min() == 0  # an object reaches beyond the image, and is cut there
    assert (ends <= (140, 150)).all()
    assert np.median(overlaps) >= 0.9
    assert min(overlaps) > 0.7
    fractions = np.concatenate([np.asarray(roi.coordinates()) for roi in rois]) % 1
    assert np.mean(np.abs(fractions - 0.5) < 0.49) > 0.5


def test_score_reads_the_stars_as_the_mask(tmp_path: Path) -> None:
    image = done(tmp_path, STARDIST.maps(discs()), "CYX")

    summary = score(image.files["rois:subpixel"], image.files["labels"])

    assert not summary.failed
    assert summary.total[0][1].f1 == 1


def test_the_stars_of_joined_planes_have_the_number_of_their_object(tmp_path: Path) -> None:
    maps = np.stack([STARDIST.maps(discs(shift)) for shift in (0, 3)])

    image = done(tmp_path, maps, "ZCYX", link={"z": 0.25})

    labels = tifffile.imread(image.files["labels"])
    rois = rois_of(image)
    assert {roi.z_position for roi in rois} == {1, 2}
    for roi in rois:
        number, plane = int(roi.name.split("-")[0]), roi.z_position - 1
        y, x = np.asarray(roi.coordinates()).mean(axis=0)[::-1].astype(int).clip(0)
        assert labels[plane, y, x] == number
    assert max(int(roi.name.split("-")[0]) for roi in rois) == labels.max()


def test_a_star_lies_in_the_image_where_the_network_saw_it_larger(tmp_path: Path) -> None:
    image = done(tmp_path, STARDIST.maps(discs()), "CYX", scale=2.0)

    labels = tifffile.imread(image.files["labels"])
    for roi in rois_of(image):
        inside = polygon2mask(labels.shape, np.asarray(roi.coordinates())[:, ::-1] - 0.5)
        own = labels == int(roi.name)
        assert (inside & own).sum() >= 0.7 * own.sum()


def test_a_recipe_without_polygons_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(PolygonsLacking, match="recipe stardist"):
        done(tmp_path, STARDIST.maps(discs()), "CYX", recipe="components", settings={})

    assert not list((tmp_path / "out").glob("*"))
