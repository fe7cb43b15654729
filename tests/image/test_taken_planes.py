"""One plane of a stack, or the largest value of all, is an image of its own if it is asked for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.image.faults import AxesRefused, AxesUnknown
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image, read_sample
from bmz.testing.package import description, write_package

pytest.importorskip("onnxruntime")

STACK = np.random.default_rng(0).integers(0, 2**16, (3, 5, 2, 40, 30)).astype(np.uint16)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "a.ome.tif"
    um = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, STACK, metadata={"axes": "TZCYX", **um}, ome=True)
    return path


@pytest.mark.parametrize(
    ("word", "axes", "expected"),
    [
        ("z=2", "tcyx", STACK[:, 2]),
        ("z=max", "tcyx", STACK.max(1)),
        ("t=1,z=max", "cyx", STACK[1].max(0)),
        ("tzcyx,z=4,t=max", "cyx", STACK[:, 4].max(0)),
        ("Z=MAX", "tcyx", STACK.max(1)),
    ],
)
def test_what_is_taken_is_read_alike_whole_in_regions_and_in_samples(
    word: str, axes: str, expected: AnyArray, path: Path
) -> None:
    info = inspect_image(path, axes=word)

    whole, sample = read_image(info), read_sample(info, 10**6)
    with open_image(info) as image:
        region = image.region({"y": slice(3, 20), "c": slice(1, 2)})

    assert (info.axes, info.shape) == (axes, expected.shape)
    assert info.pixel_um == whole.pixel_um == region.pixel_um == {"y": 0.5, "x": 0.5}
    assert np.array_equal(whole.array, expected)
    assert np.array_equal(sample.array, expected.reshape(-1, 2, 40, 30))
    assert np.array_equal(region.array, expected[..., 1:2, 3:20, :])


@settings(max_examples=40)
@given(st.lists(st.sampled_from([*"tzcyx=,029 ", "max", "z=", "zyx", "tzcyx"])).map("".join))
def test_a_word_gives_an_image_or_is_refused_by_name(path: Path, word: str) -> None:
    with suppress(AxesRefused):
        info = inspect_image(path, axes=word)

        assert info.whole.shape == STACK.shape
        assert np.asarray(read_image(info)).size == np.prod(info.shape)


@pytest.mark.parametrize("word", ["z=5", "c=1", "x=max", "z=", "z=-1", "z=1,z=2", "z=mean", "q=1"])
def test_a_plane_that_is_not_there_or_another_axis_is_refused(word: str, path: Path) -> None:
    with pytest.raises(AxesRefused, match=word):
        inspect_image(path, axes=word)


def test_of_axes_without_names_none_is_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[0, :, 0])

    with pytest.raises(AxesUnknown):
        inspect_image(tmp_path / "a.npy", axes="z=1")

    assert inspect_image(tmp_path / "a.npy", axes="zyx,z=1").shape == (40, 30)


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
@pytest.mark.parametrize("word", ["z=1", "z=max"])
def test_a_run_on_what_is_taken_gives_the_labels_of_that_plane(
    word: str, memory_gb: float, tmp_path: Path
) -> None:
    stack = np.zeros((4, 70, 60), np.float32)
    stack[1, 5:20, 8:30] = stack[3, 40:50, 40:50] = 1
    plane = stack[1] if word == "z=1" else stack.max(0)
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "plane.tif", plane, metadata={"axes": "YX"})
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)

    def labels(name: str, axes: str | None) -> AnyArray:
        out = tmp_path / f"out-{name}"
        paths = (tmp_path / f"{name}.tif",)
        (done,) = run(RunRequest(model, paths, out, axes=axes, memory_gb=memory_gb)).done
        assert done.record["request"]["axes"] == axes
        return tifffile.imread(done.files["labels"])

    taken = labels("stack", word)

    assert taken.shape == (70, 60)
    assert taken.max() == (1 if word == "z=1" else 2)
    assert np.array_equal(taken, labels("plane", None))
