"""Cutting beyond the border is the same as padding the whole image first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.plan.tiling import AxisRule, PadMode, plan_tiles
from bmz.predict.cutting import Job, Tensor, cut, stacked_tiles


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

    tile = stacked_tiles(Tensor(image, "bcyx"), [Job(0, (1, 1))], tiling)

    assert np.shares_memory(tile, image)


def test_tiles_are_stacked_along_b_wherever_it_stands() -> None:
    image = np.arange(2 * 8 * 3).reshape(8, 3, 2)
    tiling = plan_tiles({"y": 8}, [AxisRule("y", 4, 0)])
    jobs = [Job(image, position) for image in (0, 1) for position in tiling.positions()]

    tiles = stacked_tiles(Tensor(image, "ycb"), jobs, tiling)

    assert tiles.shape == (4, 3, 4)
    assert tiles[..., 1].tolist() == image[4:, :, 0].tolist()


def test_a_tensor_without_spatial_axes_is_given_with_each_tile() -> None:
    prompt = np.array([[1.0, 2.0]])
    tiling = plan_tiles({"y": 8}, [AxisRule("y", 4, 0)])
    jobs = [Job(0, position) for position in tiling.positions()]

    assert stacked_tiles(Tensor(prompt, "bc"), jobs, tiling).tolist() == [[1, 2], [1, 2]]
    assert stacked_tiles(Tensor(prompt[0], "c"), jobs, tiling).tolist() == [1, 2]
