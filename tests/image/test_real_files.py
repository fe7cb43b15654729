"""Real files of microscopes: each is as a reference reader finds it, or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.axes import in_image_order
from bmz.base.errors import BmzError
from bmz.check.fit import check_header
from bmz.check.fit_case import FitCase
from bmz.engine.load import load_model
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image

LIBRARIES = {".czi": "pylibCZIrw", ".lif": "liffile", ".nd2": "nd2"}


def entries(shared: Path) -> list[dict[str, Any]]:
    file = shared / "data" / "files" / "expected.json"
    listed: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return listed


def images_of(path: Path) -> list[ImageInfo]:
    first = inspect_image(path)
    return [first, *(inspect_image(path, series=n) for n in range(1, first.series_count))]


def test_the_images_of_real_files_are_those_of_a_reference_reader(shared: Path) -> None:
    compared = 0
    for entry in entries(shared):
        path = shared / "data" / "files" / entry["file"]
        if not isinstance(entry["images"], list):
            continue
        pytest.importorskip(LIBRARIES.get(path.suffix, "tifffile"))
        for info, wanted in zip(images_of(path), entry["images"], strict=True):
            assert in_image_order(info.axes) == in_image_order(wanted["axes"]), path
            sizes = dict(zip(wanted["axes"], wanted["shape"], strict=True))
            assert (info.sizes, str(info.dtype)) == (sizes, wanted["dtype"]), path
            known = {axis: info.pixel_um[axis] for axis in wanted["um"]}
            assert known == pytest.approx(wanted["um"], rel=1e-3), path
            compared += 1

    assert compared > 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("zarr/dimension_handling_tzyx.zarr", "image.unreadable"),
        ("czi/RGB-multichannel.czi", "image.two-channel-axes"),
        ("mrxs/CMU-1-Saved-1_16.mrxs", "image.parts-missing"),
        ("lif/LeicaLASX_wavelength-sweep_example.lif", "axes.ambiguous"),
    ],
)
def test_what_is_no_image_for_us_is_refused_by_name(shared: Path, name: str, code: str) -> None:
    path = shared / "data" / "files" / name
    pytest.importorskip(LIBRARIES.get(path.suffix, "tifffile"))

    with pytest.raises(BmzError) as caught:
        read_image(inspect_image(path))

    assert caught.value.code == code


def test_a_set_with_a_companion_is_read_by_any_of_its_files(shared: Path) -> None:
    folder = shared / "data" / "files" / "ome"
    planes = [read_image(inspect_image(p)).array for p in sorted(folder.glob("multifile-Z*"))]

    assert planes[0].shape == (5, 24, 18)
    assert all(np.array_equal(planes[0], other) for other in planes[1:])


def test_pixels_of_nd2_and_lif_are_those_of_their_libraries(shared: Path) -> None:
    nd2 = pytest.importorskip("nd2")
    liffile = pytest.importorskip("liffile")
    folder = shared / "data" / "files"
    stack = folder / "nd2" / "cluster.nd2"
    with nd2.ND2File(stack) as document:
        pixels = np.moveaxis(document.asarray(), 2, 1)

    assert np.array_equal(read_image(inspect_image(stack)).array, pixels)

    waves = folder / "lif" / "LeicaLASX_wavelength-sweep_example.lif"
    with liffile.LifFile(waves) as document:
        sweep = document.images[0].asarray()

    assert np.array_equal(read_image(inspect_image(waves, axes="cyx")).array, sweep)


def test_colours_of_czi_are_red_green_blue(shared: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    from bmz.image.scenes import opened_czi

    path = shared / "data" / "files" / "czi" / "RGB-multichannel.czi"
    with opened_czi(path) as scenes:
        scene = scenes.scene(0)
        whole = tuple(slice(0, n) for n in scene.stored.shape)
        pixels = np.asarray(scene.stored[whole])

    means = pixels.reshape(7, -1, 3)[0].mean(axis=0)
    assert means == pytest.approx([118.41, 117.93, 118.18], abs=0.01)


def test_an_axis_of_wavelengths_is_named_where_axes_are_asked_for(shared: Path) -> None:
    pytest.importorskip("liffile")
    path = shared / "data" / "files" / "lif" / "LeicaLASX_wavelength-sweep_example.lif"
    model = load_model("starter/nuclei")

    report = check_header(FitCase(model, inspect_image(path))).report

    assert "it has an axis λ of 20" in report.errors[0].message
