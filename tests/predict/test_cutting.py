"""Cutting beyond the border is the same as padding the whole image first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.plan.tile_way import PadMode, TileWay
from bmz.plan.tiling import AxisRule, AxisTiling, Tiling, plan_tiles
from bmz.predict.cutting import LazyTensor, Tensor, TileJob, cut, stacked_tiles


@pytest.mark.parametrize("pad", ["reflect", "symmetric", "edge", "constant"])
@given(there=st.integers(1, 9), start=st.integers(-20, 25), size=st.integers(1, 30))
def test_a_cut_equals_the_same_part_of_the_padded_image(
    pad: PadMode, there: int, start: int, size: int
) -> None:
    image = np.arange(1, 2 * there + 1).reshape(2, there)
    padded = np.pad(image, [(0, 0), (60, 60)], mode=pad)

    found = cut(image, 1, start, size, pad)

    assert found.tolist() == padded[:, 60 + start : 60 + start + size].tolist()


def test_a_tile_within_the_image_is_a_view() -> None:
    image = np.zeros((1, 1, 64, 64), np.float32)
    tiling = plan_tiles({"y": 64, "x": 64}, [AxisRule(a, 16, 16, 2) for a in "yx"], side=32)

    tile = stacked_tiles(Tensor(image, "bcyx"), [TileJob(0, (1, 1))], tiling)

    assert np.shares_memory(tile, image)


def test_tiles_are_stacked_along_b_wherever_it_stands() -> None:
    image = np.arange(2 * 8 * 3).reshape(8, 3, 2)
    tiling = plan_tiles({"y": 8}, [AxisRule("y", 4, 0)])
    jobs = [TileJob(image, position) for image in (0, 1) for position in tiling.positions()]

    tiles = stacked_tiles(Tensor(image, "ycb"), jobs, tiling)

    assert tiles.shape == (4, 3, 4)
    assert tiles[..., 1].tolist() == image[4:, :, 0].tolist()


def test_a_tensor_without_spatial_axes_is_given_with_each_tile() -> None:
    prompt = np.array([[1.0, 2.0]])
    tiling = plan_tiles({"y": 8}, [AxisRule("y", 4, 0)])
    jobs = [TileJob(0, position) for position in tiling.positions()]

    assert stacked_tiles(Tensor(prompt, "bc"), jobs, tiling).tolist() == [[1, 2], [1, 2]]
    assert stacked_tiles(Tensor(prompt[0], "c"), jobs, tiling).tolist() == [1, 2]


@pytest.mark.parametrize("position", [(i, j) for i in range(3) for j in range(3)])
def test_every_tile_of_an_image_without_padding_is_a_view_of_its_own_part(
    position: tuple[int, int],
) -> None:
    image = np.arange(40 * 40).reshape(1, 40, 40)
    tiling = plan_tiles({"y": 40, "x": 40}, [AxisRule(a, 16, 4, 2) for a in "yx"], side=16)
    y, x = (along.starts[at] for along, at in zip(tiling.axes, position, strict=True))

    tile = stacked_tiles(Tensor(image, "cyx"), [TileJob(0, position)], tiling)

    assert np.shares_memory(tile, image)
    assert tile.tolist() == image[:, y : y + 16, x : x + 16].tolist()


def test_a_reader_is_asked_once_a_tile_and_only_for_what_is_there() -> None:
    image = np.arange(1, 21).reshape(1, 1, 20)
    boxes: list[tuple[slice, ...]] = []

    class Reader:
        shape = image.shape

        def __getitem__(self, box: tuple[slice, ...]) -> AnyArray:
            boxes.append(box)
            found: AnyArray = image[box]
            return found

    tiling = plan_tiles({"x": 20}, [AxisRule("x", 12, 4, lost=2)], side=12, way=TileWay("constant"))

    tiles = [
        stacked_tiles(LazyTensor(Reader(), "bcx"), [TileJob(0, position)], tiling)
        for position in tiling.positions()
    ]

    padded = np.pad(image, [(0, 0), (0, 0), (40, 40)])
    for along, tile, box in zip(tiling.axes[0].starts, tiles, boxes, strict=True):
        assert tile.tolist() == padded[..., 40 + along : 52 + along].tolist()
        assert (box[2].start, box[2].stop) == (max(along, 0), min(along + 12, 20))
    assert tiling.axes[0].starts[0] == -2


@pytest.mark.parametrize("pad", ["reflect", "symmetric", "edge", "constant"])
@given(there=st.integers(1, 6), size=st.integers(1, 9), rows=st.integers(1, 6))
def test_both_sides_of_a_corner_are_filled(pad: PadMode, there: int, size: int, rows: int) -> None:
    image = np.arange(1, rows * there + 1).reshape(1, rows, there)
    along = [AxisTiling(axis, n, size, (-2,), (0, n)) for axis, n in (("y", rows), ("x", there))]

    tile = stacked_tiles(
        Tensor(image, "cyx"), [TileJob(0, (0, 0))], Tiling(tuple(along), TileWay(pad))
    )

    padded = np.pad(image[0], 20, mode=pad)
    assert tile[0].tolist() == padded[18 : 18 + size, 18 : 18 + size].tolist()
