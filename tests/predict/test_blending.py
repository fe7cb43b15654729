"""Tiles that overlap are averaged with weights that fall towards their edges."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.plan.tile_way import Blend, TileWay
from bmz.plan.tiling import AxisRule, OutputRule, Tiling, plan_tiles
from bmz.predict.cutting import Tensor
from bmz.predict.mosaic import axis_shares
from bmz.predict.tiles import predict_tiled
from bmz.process.recipes import RECIPES
from bmz.testing.backend import FakeBackend, pointwise

WAY = TileWay("constant", 8, None, Blend(0.1, 20, 7.5))


def tiled(image: int, side: int = 64, way: TileWay = WAY) -> Tiling:
    rules = [AxisRule(axis, 16, 16) for axis in "yx"]
    return plan_tiles({"y": image, "x": image}, rules, side=side, way=way)


def numbered() -> FakeBackend:
    """Give a network that answers 1 for the first tile, 2 for the next, and so on."""
    numbers = count(1)

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        return [np.full_like(inputs[0], next(numbers))]

    return FakeBackend(network)


@given(st.integers(1, 300), st.sampled_from([Fraction(1, 2), 1, 2]), st.sampled_from([32, 64, 224]))
def test_the_shares_of_all_tiles_are_one_in_every_pixel(
    image: int, spacing: Fraction | int, side: int
) -> None:
    rule = AxisRule("x", 16, 16, grid=Fraction(spacing).numerator)
    along = plan_tiles({"x": image}, [rule], side={"x": side}, way=WAY).axes[0]
    output = OutputRule("x", {"x": spacing})

    total = np.zeros(along.image_output(output))
    for kept, share in zip(along.kept(output), axis_shares(along, output), strict=True):
        total[kept.target] += 1 if share is None else share

    np.testing.assert_allclose(total, 1, rtol=1e-6)


@pytest.mark.parametrize("size", [40, 150])
def test_a_pointwise_network_gives_the_same_in_averaged_tiles(size: int) -> None:
    image = np.random.default_rng(0).random((2, 1, size, size), np.float32)

    (found,) = predict_tiled(
        FakeBackend(pointwise), [Tensor(image, "bcyx")], tiled(size), [OutputRule("bcyx")], batch=3
    )

    np.testing.assert_allclose(found, pointwise([image])[0], rtol=1e-6)


def test_tiles_of_mesmer_have_the_weights_of_deepcell() -> None:
    rule, way = AxisRule("x", 256, 0), RECIPES["mesmer"].tiles
    along = plan_tiles({"x": 448}, [rule], side=256, way=way).axes[0]

    first, last = axis_shares(along, OutputRule("x"))

    assert first is not None
    assert last is not None
    assert set(first[:192]) == set(last[64:]) == {1}
    # deepcell_toolbox.utils.spline_window(256, 0, 64) of deepcell-toolbox 0.12.1
    wanted = [1, 0.97265, 0.86717, 0.51557, 0.48456, 0.11732, 0.00012]
    np.testing.assert_allclose(first[192:][[0, 7, 16, 31, 32, 48, 63]], wanted, atol=2e-4)


def test_a_tile_fades_into_the_next_without_a_step() -> None:
    image = np.zeros((1, 1, 40, 90), np.float32)
    rules = [AxisRule(axis, 16, 16) for axis in "yx"]
    tiling = plan_tiles({"y": 40, "x": 90}, rules, side=64, way=WAY)

    (found,) = predict_tiled(numbered(), [Tensor(image, "bcyx")], tiling, [OutputRule("bcyx")])

    row = found[0, 0, 20]
    assert tiling.count > 1
    assert (np.diff(row) > -1e-6).all()
    assert np.diff(row).max() < 0.2
    assert row[0] == pytest.approx(1, abs=0.2)
    assert row[-1] == pytest.approx(tiling.count, abs=0.2)


def test_whole_numbers_have_no_average_and_are_cut() -> None:
    image = np.zeros((1, 1, 90, 90), np.uint16)

    (found,) = predict_tiled(numbered(), [Tensor(image, "bcyx")], tiled(90), [OutputRule("bcyx")])

    assert found.dtype == np.uint16
    assert set(np.unique(found)) == set(range(1, tiled(90).count + 1))
