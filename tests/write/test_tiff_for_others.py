"""Other programs read in our OME-TIFF what was written, and nothing that was half written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.write import tiff as tiff_module
from bmz.write.tiff import (
    LabelsRefused,
    write_labels,
    write_large_labels,
    write_raw,
)


@dataclass(frozen=True)
class Parts:
    """Planes in memory that may fail to be read from a pixel on."""

    axes: str
    array: AnyArray
    unreadable_from: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, box: tuple[slice, ...], /) -> AnyArray:
        if self.unreadable_from is not None and box[-2].start >= self.unreadable_from:
            raise OSError("the disk is gone")
        part: AnyArray = self.array[box]
        return part


def labelled(pixels: Any, axes: str = "yx", **um: float) -> Pixels:
    return Pixels(np.asarray(pixels), tuple(axes), um)


def facts(path: Path) -> dict[str, Any]:
    """Give the attributes of the pixels, and the UUID, as OME-XML has them."""
    with tifffile.TiffFile(path) as file:
        ome = tifffile.xml2dict(file.ome_metadata or "")["OME"]
    pixels: dict[str, Any] = ome["Image"]["Pixels"]
    return {"UUID": ome["UUID"], **pixels}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few pixels be a large image."""
    monkeypatch.setattr(tiff_module, "_TILED_FROM_PX", 64)
    monkeypatch.setattr(tiff_module, "_TILE_PX", 16)
    monkeypatch.setattr(tiff_module, "_PIECE_PX", 32)


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        (0, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32"),
        (2**32 - 1, "uint32"),
    ],
)  # fmt: skip
def test_the_highest_label_decides_the_dtype(most: int, dtype: str, tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", labelled([[0, most, 0]]))

    found = tifffile.imread(tmp_path / "a.tif")
    assert found.tolist() == [[0, most, 0]]
    assert (str(found.dtype), facts(tmp_path / "a.tif")["Type"]) == (dtype, dtype)


def test_a_mask_of_true_and_false_becomes_labels_0_and_1(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", labelled([[True, False]]))

    found = tifffile.imread(tmp_path / "a.tif")
    assert (found.tolist(), str(found.dtype)) == ([[1, 0]], "uint8")


def test_a_refusal_says_what_was_wanted_and_that_it_is_not_the_user_s_fault() -> None:
    with pytest.raises(LabelsRefused) as caught:
        write_labels(Path("a.tif"), labelled([[-1, 3]], "yx"))

    assert str(caught.value) == (
        "cannot write 'a.tif': labels must be 0 to 4294967295, found -1 to 3 [output.labels]"
    )
    assert caught.value.hint == (
        "this is a bug in the label recipe; please report it with the command line"
    )


def test_each_axis_has_its_own_size_and_length_in_um(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4 * 5).reshape(5, 4, 3, 2)

    write_labels(tmp_path / "a.tif", labelled(pixels, "xyzt", z=2.5, y=0.5, x=0.1))

    found = facts(tmp_path / "a.tif")
    sizes = {key: found[key] for key in found if "Size" in key}
    assert sizes == {
        "SizeT": 2, "SizeC": 1, "SizeZ": 3, "SizeY": 4, "SizeX": 5,
        "PhysicalSizeZ": 2.5, "PhysicalSizeY": 0.5, "PhysicalSizeX": pytest.approx(0.1),
        "PhysicalSizeZUnit": "µm", "PhysicalSizeYUnit": "µm", "PhysicalSizeXUnit": "µm",
    }  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels.T)
    # a reader that trusts the order of dimensions alone finds plane z=1, t=1 at page 1 + 3
    assert found["DimensionOrder"] == "XYCZT"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif", key=4), pixels.T[1, 1])


def test_a_length_that_is_not_known_is_not_written(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", labelled(np.zeros((2, 3, 4), int), "zyx", x=0.5))

    lengths = {key for key in facts(tmp_path / "a.tif") if key.startswith("PhysicalSize")}
    assert lengths == {"PhysicalSizeX", "PhysicalSizeXUnit"}


def test_the_same_labels_are_the_same_bytes_and_others_have_another_uuid(tmp_path: Path) -> None:
    for name, pixels in (("a", [[0, 1]]), ("b", [[0, 1]]), ("c", [[1, 0]])):
        write_labels(tmp_path / f"{name}.tif", labelled(pixels, x=0.5))

    first, again, other = (tmp_path / f"{name}.tif" for name in "abc")
    assert first.read_bytes() == again.read_bytes()
    assert facts(first)["UUID"].startswith("urn:uuid:")
    assert facts(first)["UUID"] != facts(other)["UUID"]


def test_maps_can_be_mapped_from_the_disk_and_keep_what_is_no_number(tmp_path: Path) -> None:
    maps = np.array([[[0.1, np.nan, -np.inf]], [[1e-30, 3e38, 0]]], np.float32)

    write_raw(tmp_path / "a.tif", Parts("cyx", maps.astype(np.float64)), {"y": 2.0})

    mapped = tifffile.memmap(tmp_path / "a.tif", mode="r")
    np.testing.assert_array_equal(mapped, maps)
    assert mapped.dtype == np.float32
    found = facts(tmp_path / "a.tif")
    assert (found["SizeC"], found["PhysicalSizeY"], found["Type"]) == (2, 2.0, "float")


def test_three_channels_of_a_map_are_no_photograph(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.raw.tif", Parts("cyx", np.zeros((3, 4, 5))), {})

    assert not inspect_image(tmp_path / "a.raw.tif").colour


@pytest.mark.usefixtures("small_tiles")
def test_a_mask_is_tiled_from_one_pixel_more_than_a_plain_one_may_have(tmp_path: Path) -> None:
    for side in (64, 65):
        write_labels(tmp_path / f"{side}.tif", labelled(np.ones((3, side), int)))
        write_labels(tmp_path / f"{side}-down.tif", labelled(np.ones((side, 3), int)))

    for side, tiled in ((64, False), (65, True)):
        for name in (f"{side}.tif", f"{side}-down.tif"):
            with tifffile.TiffFile(tmp_path / name) as file:
                assert file.pages.first.is_tiled == tiled


@pytest.mark.usefixtures("small_tiles")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    axes=st.sampled_from(["yx", "zyx", "tzyx"]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    most=st.sampled_from([1, 255, 256, 70_000]),
)
def test_each_smaller_copy_holds_every_second_pixel_of_the_one_before(
    tmp_path: Path, axes: str, height: int, width: int, most: int
) -> None:
    shape = (*(2, 3)[: len(axes) - 2], height, width)
    pixels = np.random.default_rng(height).integers(0, most, shape, np.int64, endpoint=True)

    write_large_labels(tmp_path / "a.tif", Parts(axes, pixels), most, {"x": 0.5})

    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert file.series[0].axes == axes.upper()
    for number, level in enumerate(levels):
        step = 2**number
        wanted = pixels[..., ::step, ::step]
        np.testing.assert_array_equal(level.reshape(wanted.shape), wanted)
        assert level.dtype == np.min_scalar_type(most)
        assert (max(wanted.shape[-2:]) <= 16) == (number == len(levels) - 1)
    assert facts(tmp_path / "a.tif")["PhysicalSizeX"] == 0.5


@pytest.mark.usefixtures("small_tiles")
def test_labels_in_parts_and_in_one_piece_are_the_same_file(tmp_path: Path) -> None:
    pixels = np.arange(2 * 70 * 40).reshape(2, 70, 40)

    write_labels(tmp_path / "a.tif", labelled(pixels, "zyx", z=2.0, y=0.5))
    parts = Parts("zyx", pixels)
    write_large_labels(tmp_path / "b.tif", parts, int(pixels.max()), {"z": 2.0, "y": 0.5})

    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("axes", "shape"), [("yx", (70, 40)), ("czyx", (2, 3, 50, 30))])
def test_maps_come_back_with_axes_and_lengths(
    axes: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    maps = np.random.default_rng(0).random(shape)
    lengths = {"y": 0.5, "x": 0.25}

    write_raw(tmp_path / "a.raw.tif", Parts(axes, maps), lengths)

    info = inspect_image(tmp_path / "a.raw.tif")
    assert (info.axes, info.dtype, info.pixel_um) == (axes, np.dtype(np.float32), lengths)
    np.testing.assert_array_equal(read_image(info), maps.astype(np.float32))


@pytest.mark.usefixtures("small_tiles")
def test_from_4_gib_on_a_file_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_module, "_CLASSIC_BYTES", 70 * 4 * 4)  # in place of 4 GiB
    numbers = {70: False, 71: True}

    big = {}
    for rows in numbers:
        pixels = np.full((rows, 4), 2**31)
        write_large_labels(tmp_path / "a.tif", Parts("yx", pixels), 2**31, {})
        write_raw(tmp_path / "b.tif", Parts("yx", pixels), {})
        for name in "ab":
            with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
                big[name, rows] = file.is_bigtiff
                np.testing.assert_array_equal(file.asarray(), pixels)

    assert big == {(name, rows): numbers[rows] for name, rows in big}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("writer", ["labels", "raw"])
def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(
    writer: str, tmp_path: Path
) -> None:
    target = tmp_path / "a.tif"
    target.write_bytes(b"old")
    parts = Parts("yx", np.ones((200, 40), int), unreadable_from=96)

    def write() -> None:
        if writer == "labels":
            write_large_labels(target, parts, 1, {})
        else:
            write_raw(target, parts, {})

    with pytest.raises(OSError, match="the disk is gone"):
        write()

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
