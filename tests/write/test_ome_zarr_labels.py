"""Labels as OME-Zarr: valid, whole, and read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
from tests.write.parts import ArrayMask

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.testing.package import description, write_package
from bmz.write.ome_zarr import MOST_COLOURS, write_label_store


def numbers(shape: tuple[int, ...], most: int) -> AnyArray:
    return np.random.default_rng(0).integers(0, most + 1, shape)


def written(folder: Path, labels: AnyArray, dims: str, um: dict[str, float]) -> Path:
    write_label_store(folder, ArrayMask(dims, labels), um, {"model": "m"})
    return folder


@pytest.mark.parametrize(
    ("dims", "shape"),
    [("yx", (700, 1100)), ("zyx", (3, 40, 30)), ("tyx", (2, 600, 40)), ("tzyx", (2, 2, 9, 8))],
)
def test_stores_are_valid_and_read_back(dims: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    labels = numbers(shape, 900)
    um = {axis: 0.5 * (n + 1) for n, axis in enumerate(dims) if axis in "zyx"}

    folder = written(tmp_path / "a.ome.zarr", labels, dims, um)

    yaozarrs.validate_zarr_store(str(folder))
    yaozarrs.validate_zarr_store(str(folder / "labels" / "objects"))
    info = inspect_image(folder)
    assert info.axes == dims
    assert info.pixel_um == pytest.approx(um)
    found = read_image(info)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels)


def test_a_pyramid_holds_every_second_pixel_of_the_level_before(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    labels = numbers((1301, 2100), 70_000)

    folder = written(tmp_path / "a.ome.zarr", labels, "yx", {"y": 0.5, "x": 0.25})

    group = json.loads((folder / "labels/objects/zarr.json").read_text())["attributes"]
    datasets = group["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == 4
    for number, dataset in enumerate(datasets):
        level = zarr.open_array(folder / "labels/objects" / dataset["path"], mode="r")
        assert level.dtype == np.uint32
        np.testing.assert_array_equal(level[...], labels[:: 2**number, :: 2**number])
        (scale,) = dataset["coordinateTransformations"]
        assert scale["scale"] == [0.5 * 2**number, 0.25 * 2**number]


def test_labels_have_colours_and_say_where_they_come_from(tmp_path: Path) -> None:
    folder = written(tmp_path / "a.ome.zarr", numbers((20, 30), 5), "yx", {})

    told = json.loads((folder / "labels/objects/zarr.json").read_text())["attributes"]
    colours = told["ome"]["image-label"]["colors"]
    assert [colour["label-value"] for colour in colours] == [1, 2, 3, 4, 5]
    assert len({tuple(colour["rgba"]) for colour in colours}) == 5
    assert told["ome"]["image-label"]["source"] == {"image": "../../"}
    assert told["bmz"] == {"model": "m"}
    assert MOST_COLOURS < 2**16


def test_an_empty_mask_is_a_whole_store(tmp_path: Path) -> None:
    folder = written(tmp_path / "a.ome.zarr", np.zeros((9, 8), np.int64), "yx", {})

    yaozarrs.validate_zarr_store(str(folder))
    assert read_image(inspect_image(folder)).array.max() == 0


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_a_run_writes_them_in_one_piece_and_in_parts(memory_gb: float, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    image = np.zeros((120, 130), np.float32)
    image[10:30, 20:40] = image[60:90, 50:99] = 1
    tifffile.imwrite(tmp_path / "a.tif", image, metadata={"axes": "YX"})
    request = RunRequest(
        model, (tmp_path / "a.tif",), tmp_path / "out", labels_format="zarr", memory_gb=memory_gb
    )

    (done,) = run(request).done
    (again,) = run(RunRequest(**{**vars(request), "overwrite": True})).done

    for one in (done, again):
        assert one.files["labels"].name == "a.labels.ome.zarr"
        yaozarrs.validate_zarr_store(str(one.files["labels"]))
        np.testing.assert_array_equal(
            read_image(inspect_image(one.files["labels"])).array > 0, image > 0.5
        )
