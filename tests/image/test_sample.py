from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from bmz.image.inspect import inspect_image
from bmz.image.region import choose_tiles, read_sample

STACK = np.random.default_rng(0).integers(0, 60000, (4, 2, 60, 80)).astype(np.uint16)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    words = {
        "axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
        "Channel": {"Name": ["a", "b"]},
    }  # fmt: skip
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, ome=True, photometric="minisblack", metadata=words)
    return path


def test_an_image_that_fits_is_its_own_sample(stack: Path) -> None:
    sample = read_sample(inspect_image(stack), STACK.size)

    assert sample.axes == ("tile", "c", "y", "x")
    assert np.array_equal(sample.array, STACK)


def test_a_sample_keeps_every_channel_and_the_pixels_as_they_are(stack: Path) -> None:
    info = inspect_image(stack)
    tiles, (height, width) = choose_tiles({"t": 1, **info.sizes}, 1000)

    sample = read_sample(info, 1000)

    assert sample.axes == ("tile", "c", "y", "x")
    assert sample.dtype == np.uint16
    assert sample.shape == (len(tiles), 2, height, width)
    for found, tile in zip(sample.array, tiles, strict=True):
        there = STACK[tile.z, :, tile.y : tile.y + height, tile.x : tile.x + width]
        assert np.array_equal(found, there)


def test_the_same_image_gives_the_same_sample(stack: Path) -> None:
    info = inspect_image(stack)

    assert np.array_equal(read_sample(info, 900).array, read_sample(info, 900).array)


def test_a_plane_without_names_is_sampled_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[0, 0])

    sample = read_sample(inspect_image(tmp_path / "a.npy"), 100)

    assert sample.axes == ("tile", "y", "x")
    assert sample.array.shape == (1, 10, 10)
    assert np.array_equal(sample.array[0], STACK[0, 0, 25:35, 35:45])  # the central tile


def test_a_sample_of_nothing_is_refused(stack: Path) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        read_sample(inspect_image(stack), 0)


def test_large_planes_are_sampled_by_tiles_from_all_over() -> None:
    tiles, lengths = choose_tiles({"t": 1, "z": 50, "y": 4000, "x": 6000}, 20 * 512 * 512)

    assert lengths == (512, 512)
    assert {tile.z for tile in tiles} == {4, 14, 24, 34, 44}
    assert len(tiles) == 20
    assert {tile.y for tile in tiles} == {744, 2744}
    assert {tile.x for tile in tiles} == {1244, 4244}


@given(
    counts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    sides=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    most_px=st.integers(1, 5_000_000),
)
def test_tiles_lie_within_the_image_apart_from_each_other_and_within_the_budget(
    counts: tuple[int, int], sides: tuple[int, int], most_px: int
) -> None:
    sizes = dict(zip("tzyx", (*counts, *sides), strict=True))

    tiles, (height, width) = choose_tiles(sizes, most_px)

    total = len(tiles) * height * width
    whole = int(np.prod(list(sizes.values())))
    of_five_planes = min(counts[0] * counts[1], 5) * sides[0] * sides[1]
    assert total <= most_px
    assert total == whole or total >= min(of_five_planes, most_px) / 9 or max(height, width) == 1
    assert len(set(tiles)) == len(tiles)
    assert all(0 <= t.t < counts[0] and 0 <= t.z < counts[1] for t in tiles)
    assert all(0 <= t.y <= sides[0] - height and 0 <= t.x <= sides[1] - width for t in tiles)
    for one in ("y", "x"):
        starts = sorted({getattr(t, one) for t in tiles})
        side = height if one == "y" else width
        assert all(b - a >= side for a, b in pairwise(starts))


def test_a_sample_of_a_photograph_is_one_and_keeps_names_and_lengths(tmp_path: Path) -> None:
    photograph = np.zeros((40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", photograph, photometric="rgb")
    stains = {"axes": "CYX", "Channel": {"Name": ["nuclei", "membranes"]}}
    stack = np.zeros((2, 40, 50), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", stack, ome=True, metadata=stains)

    coloured = read_sample(inspect_image(tmp_path / "a.tif"), 100)
    stained = read_sample(inspect_image(tmp_path / "b.tif"), 100)

    assert coloured.colour
    assert not stained.colour
    assert stained.channel_names == ("nuclei", "membranes")
