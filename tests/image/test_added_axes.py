"""Axes of size 1 that a file does not have are there when the user names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tests.image.regions import read_region

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.image.faults import AxesRefused, ImageNotFound
from bmz.image.inspect import inspect_image
from bmz.image.region import _with_dropped, read_image, read_sample
from bmz.testing.package import description, write_package


def stored(path: Path, *shape: int) -> Path:
    np.save(path, np.arange(np.prod(shape), dtype=np.uint16).reshape(shape))
    return path


@pytest.mark.parametrize(
    ("shape", "axes", "wanted"),
    [
        ((5, 7), "zyx", (1, 5, 7)),
        ((5, 7), "yxc", (5, 7, 1)),
        ((5, 7), "tczyx", (1, 1, 1, 5, 7)),
        ((5, 7), "xzy", (5, 1, 7)),
        ((1, 7), "zyx", (1, 1, 7)),
    ],
)
def test_a_plane_may_be_a_stack_of_one(
    tmp_path: Path, shape: tuple[int, ...], axes: str, wanted: tuple[int, ...]
) -> None:
    info = inspect_image(stored(tmp_path / "a.npy", *shape), axes=axes)

    assert (info.axes, info.shape) == (axes, wanted)
    whole = read_image(info)
    assert dict(whole.sizes) == info.sizes
    part = read_region(info, {"x": slice(1, 4)})
    assert np.array_equal(part, whole.part({"x": slice(1, 4)}))
    assert read_sample(info, 100).array.size == np.prod(shape)


def test_a_named_stack_may_be_the_one_frame_of_a_series(tmp_path: Path) -> None:
    stack = np.zeros((3, 5, 7), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})

    assert inspect_image(tmp_path / "a.tif", axes="tzyx").shape == (1, 3, 5, 7)
    with pytest.raises(AxesRefused):
        inspect_image(tmp_path / "a.tif", axes="tcyx")  # which of them has three planes?


def test_of_unnamed_axes_none_is_added(tmp_path: Path) -> None:
    with pytest.raises(AxesRefused):
        inspect_image(stored(tmp_path / "a.npy", 3, 5, 7), axes="czyx")


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.data())
def test_a_box_of_the_image_is_the_same_box_of_the_file(
    lengths: list[int], data: st.DataObject
) -> None:
    larger = [n for n in lengths if n > 1]
    ones = data.draw(st.lists(st.integers(0, len(larger)), max_size=3))
    kept = list(larger)
    for at in sorted(ones, reverse=True):
        kept.insert(at, 1)
    file = np.arange(np.prod(lengths)).reshape(lengths)
    box = tuple(slice(data.draw(st.integers(0, n - 1)), n) for n in kept)

    found: AnyArray = file[_with_dropped(file.shape, tuple(kept), box)]

    assert np.array_equal(found.ravel(), file.reshape(kept)[box].ravel())


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_a_stack_of_one_plane_is_run_by_a_model_of_stacks(tmp_path: Path, memory_gb: float) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = write_package(tmp_path / "m", description(space="zyx", size={"min": 8, "step": 4}))
    plane = np.zeros((40, 40), np.float32)
    plane[5:15, 5:15] = plane[20:30, 20:30] = 1
    tifffile.imwrite(tmp_path / "a.tif", plane[None], imagej=True, metadata={"axes": "ZYX"})

    (done,) = run(
        RunRequest(
            str(model.parent), (tmp_path / "a.tif",), tmp_path / "out",
            axes="zyx", memory_gb=memory_gb,
        )
    ).done  # fmt: skip

    assert done.objects == 2
    labels = tifffile.imread(done.files["labels"])
    assert np.array_equal(np.squeeze(labels) > 0, plane > 0)


def test_a_link_to_nowhere_says_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "a.tif").symlink_to("/nowhere/b.tif")

    with pytest.raises(ImageNotFound, match=r"is a link to '/nowhere/b\.tif'") as caught:
        inspect_image(tmp_path / "a.tif")

    assert "did you mean" not in caught.value.hint


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_one_error_without_a_warning_of_numpy(
    tmp_path: Path, odd: float
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = write_package(tmp_path / "m", description())
    pixels = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    pixels[3, 4] = odd
    np.save(tmp_path / "a.npy", pixels)

    (failed,) = run(RunRequest(str(model.parent), (tmp_path / "a.npy",), tmp_path / "out")).failed

    assert failed.error.code == "range.nonfinite"
