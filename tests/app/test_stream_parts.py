"""A plane that is read in parts is prepared as the whole would be, and so is the map of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.small_models import tensor

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.engine.prepared_image import STRIP_PX, PreparedImage, StoredMap
from bmz.image.inspect import inspect_image
from bmz.image.region import FileSource, open_image
from bmz.plan.plan import Blocks
from bmz.process.adapt import resize_image


@contextmanager
def opened(folder: Path, pixels: AnyArray, axes: str) -> Iterator[FileSource]:
    np.save(folder / "a.npy", pixels)
    with open_image(inspect_image(folder / "a.npy", axes=axes)) as image:
        yield image


def whole(prepared: PreparedImage) -> AnyArray:
    return prepared[tuple(slice(0, n) for n in prepared.shape)]


@pytest.mark.parametrize(
    ("planes", "side"),
    [(1, 2048), (4, 2048), (5, 1831), (16, 1024), (64, 512), (256, 256), (10_000, 256)],
)
def test_the_box_of_a_stack_holds_as_many_pixels_as_four_of_a_plane(planes: int, side: int) -> None:
    assert Blocks().side_for(planes) == side


@pytest.mark.parametrize("letters", ["bcyx", "byxc", "cyx", "xcy"])
def test_a_part_is_that_part_of_the_tensor(letters: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((2, 3, 7, 9), np.float32)
    planes = np.stack([pixels[1, 2], np.zeros((7, 9)), pixels[1, 0]])
    wanted = planes.transpose(["cyx".index(a) for a in letters if a != "b"])
    wanted = wanted[None] if "b" in letters else wanted
    sides = {"b": slice(0, 1), "c": slice(1, 3), "y": slice(2, 6), "x": slice(4, 9)}
    box = tuple(sides[a] for a in letters)

    with opened(tmp_path, pixels, "tcyx") as image:
        size = {"y": 7, "x": 9}
        prepared = PreparedImage(image, {"t": 1}, (2, -1, 0), tensor(letters), size)
        found, everything = prepared[box], whole(prepared)

    assert prepared.shape == wanted.shape
    np.testing.assert_array_equal(everything, wanted.astype(np.float32))
    np.testing.assert_array_equal(found, wanted[box].astype(np.float32))


def test_a_grey_stack_gets_the_axes_that_its_tensor_has_more(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((2, 4, 5, 6), np.float32)

    with opened(tmp_path, pixels, "tzyx") as image:
        size = {"z": 4, "y": 5, "x": 6}
        prepared = PreparedImage(image, {"t": 0}, (0,), tensor("bzyxc"), size)
        found = prepared[0:1, 1:3, 0:5, 2:4, 0:1]

    assert prepared.shape == (1, 4, 5, 6, 1)
    np.testing.assert_array_equal(found[0, ..., 0], pixels[0, 1:3, :, 2:4])


def test_values_are_cut_at_a_value_of_each_channel_of_the_whole(tmp_path: Path) -> None:
    pixels = np.stack([np.arange(20).reshape(4, 5), 100 - np.arange(20).reshape(4, 5)])

    with opened(tmp_path, pixels.astype(np.uint16), "cyx") as image:
        raw = PreparedImage(image, {}, (0, 1), tensor("cyx"), {"y": 4, "x": 5})
        # three quarters of 19 steps are 14.25, and 14 is the value below
        found = whole(raw.clipped(75.0))
        assert raw.clipped(None) is raw

    np.testing.assert_array_equal(found[0], np.minimum(pixels[0], 14))
    np.testing.assert_array_equal(found[1], np.minimum(pixels[1], 81 + 14))


def test_values_are_turned_round_between_the_ends_of_each_channel_of_the_whole(
    tmp_path: Path,
) -> None:
    pixels = np.stack([np.arange(20).reshape(4, 5), 250 - 5 * np.arange(20).reshape(4, 5)])

    with opened(tmp_path, pixels.astype(np.uint8), "cyx") as image:
        raw = PreparedImage(
            image, {}, (0, 1, -1), tensor("cyx"), {"y": 4, "x": 5}, blocks=Blocks(side_px=2)
        )
        found = whole(raw.clipped(75.0).inverted())

    np.testing.assert_array_equal(found[0], 14 - np.minimum(pixels[0], 14))
    np.testing.assert_array_equal(found[1], 155 + 225 - np.minimum(pixels[1], 225))
    assert not found[2].any()


def test_values_are_rounded_and_cut_to_the_ends_of_an_integer_tensor(tmp_path: Path) -> None:
    pixels = np.array([[-3.0, 0.6, 254.4, 300.0]])

    with opened(tmp_path, pixels, "yx") as image:
        prepared = PreparedImage(image, {}, (0,), tensor("yx", dtype="uint8"), {"y": 1, "x": 4})
        found = whole(prepared)

    assert (found.tolist(), found.dtype) == ([[0, 1, 254, 255]], np.dtype(np.uint8))


STANDARD = Step("zero_mean_unit_variance", {"axes": ("y", "x"), "eps": 0.0})


def test_statistics_are_those_of_the_whole_plane_after_what_comes_before(
    tmp_path: Path,
) -> None:
    pixels = np.random.default_rng(0).random((9, 10)).astype(np.float32)
    pixels[0, 0] = 1000
    top = np.sort(pixels, axis=None)[88]
    cut = np.minimum(pixels, top).astype(np.float64)
    wanted = ((cut - cut.mean()) / cut.std())[None, None]

    with opened(tmp_path, pixels, "yx") as image:
        raw = PreparedImage(image, {}, (0,), tensor("bcyx", STANDARD), {"y": 9, "x": 10})
        raw = replace(raw, blocks=Blocks(side_px=4))
        prepared = raw.clipped(99.0)
        prepared = prepared.with_steps({})
        found = prepared[0:1, 0:1, 3:5, 6:10]
        np.save(tmp_path / "other.npy", pixels)
        with open_image(inspect_image(tmp_path / "other.npy", axes="yx")) as again:
            elsewhere = prepared.elsewhere()(again)[0:1, 0:1, 3:5, 6:10]

    np.testing.assert_allclose(found, wanted[..., 3:5, 6:10], rtol=1e-5)
    np.testing.assert_array_equal(elsewhere, found)


@pytest.mark.parametrize(
    ("factors", "side"),
    [((1.0, 1.0), 32), ((0.5, 0.5), 16), ((2.0, 2.0), 32), ((1.0, 0.5), 16), ((0.5, 2.0), 16)],
)
def test_boxes_of_a_shrunken_plane_are_smaller_so_that_no_more_is_read(
    factors: tuple[float, float], side: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).random((80, 100)).astype(np.float32)
    size = {"y": int(80 * factors[0]), "x": int(100 * factors[1])}

    with opened(tmp_path, pixels, "yx") as image:
        prepared = PreparedImage(image, {}, (0,), tensor("cyx"), size, blocks=Blocks(side_px=32))
        parts = list(prepared.parts())
        everything = whole(prepared)

    assert max(max(part.shape) for part in parts) == side
    assert sum(part.size for part in parts) == size["y"] * size["x"]
    wanted = resize_image(pixels[None], tuple(size.values()))
    np.testing.assert_allclose(everything, wanted, atol=1e-6)
    np.testing.assert_allclose(
        sum(part.sum(dtype=np.float64) for part in parts), wanted.sum(dtype=np.float64), rtol=1e-6
    )


def double(x: AnyArray, axes: str) -> AnyArray:
    assert axes in ("bcyx", "byxc", "yx", "bzyxc")
    return 2 * x


@settings(max_examples=40)
@given(st.sampled_from(["bcyx", "byxc", "yx", "bzyxc"]), st.data())
def test_a_part_of_a_map_is_that_part_with_channels_first(
    letters: str, data: st.DataObject
) -> None:
    sizes = {"b": 1, "c": 3, "z": 2, "y": 2 * STRIP_PX + 4, "x": 5}
    array = np.arange(np.prod([sizes[a] for a in letters])).reshape([sizes[a] for a in letters])
    held = "".join(a for a in "czyx" if a in letters)
    laid = np.squeeze(array, 0) if "b" in letters else array
    wanted = 2 * laid.transpose([letters.replace("b", "").index(a) for a in held])
    wanted = wanted if "c" in letters else wanted[None]
    maps = StoredMap(array, letters, (double,))
    starts = [data.draw(st.integers(0, n - 1)) for n in maps.shape]
    box = tuple(slice(start, n) for start, n in zip(starts, maps.shape, strict=True))

    assert maps.shape == wanted.shape
    np.testing.assert_array_equal(maps[box], wanted[box])
