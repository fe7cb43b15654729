from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.write.tiff import LabelsRefused, write_labels

AXES = st.sampled_from(["yx", "zyx", "tyx", "tzyx"])
LENGTH = st.floats(1e-4, 1e4, allow_subnormal=False)


def labelled(pixels: AnyArray, axes: str, **um: float) -> Pixels:
    return Pixels(pixels, tuple(axes), um)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    axes=AXES,
    most=st.integers(0, 2**32 - 1),
    um=st.dictionaries(st.sampled_from("zyx"), LENGTH),
    seed=st.integers(0, 99),
)
def test_labels_come_back_with_numbers_axes_and_pixel_size(
    tmp_path: Path, axes: str, most: int, um: dict[str, float], seed: int
) -> None:
    x = um.get("x", 1.0)
    um = um | ({"y": x * 2} if "y" in um else {})  # a real camera's pixels are nearly square
    shape = tuple(range(2, 2 + len(axes)))
    pixels = np.random.default_rng(seed).integers(0, most, shape, np.int64, endpoint=True)
    pixels.flat[0] = most
    labels = labelled(pixels, axes, **um)

    write_labels(tmp_path / "a.labels.tif", labels)
    info = inspect_image(tmp_path / "a.labels.tif")
    back = read_image(info)

    assert info.axes == axes
    assert info.dtype == np.min_scalar_type(most)
    assert np.array_equal(back, pixels)
    assert dict(info.pixel_um) == pytest.approx({a: n for a, n in um.items() if a in axes})
    assert back.pixel_um == pytest.approx(labels.pixel_um)


def test_labels_are_ome_deflated_and_in_our_order(tmp_path: Path) -> None:
    labels = labelled(np.arange(24).reshape(2, 3, 4), "xyz")

    write_labels(tmp_path / "a.labels.tif", labels)

    with tifffile.TiffFile(tmp_path / "a.labels.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "ZYX"
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert not tif.is_bigtiff


def test_a_large_mask_is_tiled(tmp_path: Path) -> None:
    labels = labelled(np.eye(2100, 2050, dtype=np.uint8), "yx")

    write_labels(tmp_path / "a.labels.tif", labels)

    with tifffile.TiffFile(tmp_path / "a.labels.tif") as tif:
        assert tif.pages.first.is_tiled
    assert np.array_equal(read_image(inspect_image(tmp_path / "a.labels.tif")), labels)


def test_a_pixel_wide_image_keeps_its_pixel_size(tmp_path: Path) -> None:
    labels = labelled(np.ones((3, 1), np.int32), "yx", y=0.5, x=0.25)

    write_labels(tmp_path / "a.labels.tif", labels)
    info = inspect_image(tmp_path / "a.labels.tif")

    assert (info.axes, info.shape) == ("yx", (3, 1))
    assert info.pixel_um == {"y": 0.5, "x": 0.25}


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.array([[0, 2**32]]), "0 to 4294967296"),
        (np.array([[-1, 3]]), "-1 to 3"),
        (np.array([[0.0, 1.5]]), "float64"),
    ],
)
def test_labels_that_would_change_are_refused(tmp_path: Path, pixels: AnyArray, found: str) -> None:
    with pytest.raises(LabelsRefused, match=found):
        write_labels(tmp_path / "a.labels.tif", labelled(pixels, "yx"))

    assert list(tmp_path.iterdir()) == []


def test_labels_of_a_large_plane_have_smaller_copies(tmp_path: Path) -> None:
    numbers = np.arange(2100 * 300).reshape(2100, 300) % 999
    labels = Pixels(numbers, ("y", "x"), {"y": 0.5})

    write_labels(tmp_path / "a.tif", labels)

    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(2100, 300), (1050, 150), (525, 75), (263, 38)]
        np.testing.assert_array_equal(levels[0].asarray(), numbers)
        np.testing.assert_array_equal(levels[2].asarray(), numbers[::4, ::4])
        assert 'PhysicalSizeY="0.5"' in (file.ome_metadata or "")
