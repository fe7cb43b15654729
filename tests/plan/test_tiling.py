"""Tiles are equal and legal, cover each pixel once and keep their distance from inner edges."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import lcm, prod
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.strategies import axis_rules

from bmz.plan.geometry import chosen_halos
from bmz.plan.tile_way import MIRRORED, Blend, HaloMargin, SplineBlend, TileWay
from bmz.plan.tiling import (
    NEARLY,
    TILE_PX,
    AxisRule,
    AxisTiling,
    HaloTooWide,
    OffGrid,
    OutputRule,
    default_side,
    largest_stride,
    plan_tiles,
)
from bmz.process.recipes import RECIPES


def along(image: int, rule: AxisRule, side: int, way: TileWay = MIRRORED) -> AxisTiling:
    return plan_tiles({rule.axis: image}, [rule], side={rule.axis: side}, way=way).axes[0]


def enough(rule: AxisRule) -> int:
    """Give a side that leaves something of a tile."""
    return rule.least + 2 * lcm(max(rule.step, 1), rule.grid)


any_case = given(image=st.integers(1, 700), rule=axis_rules(), more=st.integers(0, 300))


@any_case
def test_each_output_pixel_is_kept_exactly_once(image: int, rule: AxisRule, more: int) -> None:
    output = OutputRule("x", {"x": rule.grid}, {"x": rule.lost})

    tiling = along(image, rule, enough(rule) + more)

    times = np.zeros(tiling.image_output(output), int)
    for kept in tiling.kept(output):
        assert kept.source.stop - kept.source.start == kept.target.stop - kept.target.start
        assert 0 <= kept.source.start < kept.source.stop <= tiling.tile_output(output)
        times[kept.target] += 1
    assert times.tolist() == [1] * -(-image // rule.grid)


BLENDS = [None, Blend(0.1, 4, 1.5), SplineBlend(0.75)]
ways = st.builds(
    TileWay, st.just("constant"), st.integers(0, 20), st.none(), st.sampled_from(BLENDS),
    by_halo=st.sampled_from(get_args(HaloMargin)), centred=st.booleans(),
)  # fmt: skip


@given(image=st.integers(1, 700), rule=axis_rules(), more=st.integers(-300, 300), way=ways)
@example(1, AxisRule("x", 12, 0, 0, 2, 2), 0, TileWay("constant", 3))
@example(5, AxisRule("x", 24, 0, 0, 2, 8), 0, TileWay("constant", 6))
@example(82, AxisRule("x", 16, 64), -300, TileWay("constant", 4, None, Blend(0.1, 4, 1.5)))
def test_with_a_margin_and_an_average_too_each_output_pixel_is_kept(
    image: int, rule: AxisRule, more: int, way: TileWay
) -> None:
    output = OutputRule("x", {"x": rule.grid}, {"x": rule.lost})
    side = enough(rule) + max(more, 0 if way.blend is None else -enough(rule))

    tiling = along(image, rule, side, way)

    times = np.zeros(tiling.image_output(output), int)
    for kept in tiling.kept(output):
        assert kept.source.stop - kept.source.start == kept.target.stop - kept.target.start
        assert 0 <= kept.source.start < kept.source.stop <= tiling.tile_output(output)
        times[kept.target] += 1
    assert times.min() >= 1
    assert times.max() == 1 or tiling.blend is not None


@given(image=st.integers(1, 700), rule=axis_rules(), margin=st.integers(1, 20))
def test_a_margin_lies_on_both_sides_and_what_is_left_over_is_shared(
    image: int, rule: AxisRule, margin: int
) -> None:
    assume(rule.step > 0)

    tiling = along(image, rule, 2000, TileWay("constant", margin))

    before, after = tiling.padding
    assert min(before, after) >= margin + rule.lost
    assert 0 <= after - before <= 2 * rule.grid
    assert (before - rule.lost) % rule.grid == 0


CELLPOSE = [
    (64, 80, (-8,)),
    (200, 224, (-12,)),
    (208, 224, (-8,)),
    (209, 224, (-15, 1)),
    (237, 224, (-9, 23)),
    (512, 224, (-8, 144, 296)),
    (885, 224, (-13, 159, 331, 503, 675)),
    (1187, 224, (-14, 151, 316, 482, 647, 812, 978)),
]
"""Size of an image, and size and starts of the tiles along it, as cellpose 3.1.1.3 lays them
(``transforms.get_pad_yx`` and ``transforms.make_tiles`` of what it pads)."""


@pytest.mark.parametrize(("image", "tile", "starts"), CELLPOSE)
def test_flows_get_the_tiles_of_cellpose(image: int, tile: int, starts: tuple[int, ...]) -> None:
    flows = RECIPES["flows"].tiles

    tiling = along(image, AxisRule("x", 64, 16, halo=65), flows.side_px or 0, flows)

    assert (tiling.tile, tiling.starts) == (tile, starts)


MESMER = [
    (100, (-78,)),
    (255, (0,)),
    (256, (0,)),
    (257, (-96, 96)),
    (448, (0, 192)),
    (449, (-96, 96, 288)),
    (700, (-66, 126, 318, 510)),
    (1187, (-15, 177, 369, 561, 753, 945)),
]
"""Size of an image, and starts of the tiles of 256 px along it, as deepcell 0.12.10
(``Application._tile_input``) and deepcell-toolbox 0.12.1 (``tile_image``) lay them."""


@pytest.mark.parametrize(("image", "starts"), MESMER)
@pytest.mark.parametrize("step", [0, 16])
def test_mesmer_gets_the_tiles_of_deepcell(image: int, starts: tuple[int, ...], step: int) -> None:
    way = RECIPES["mesmer"].tiles

    tiling = along(image, AxisRule("x", 256, step, halo=40), way.side_px or 0, way)

    assert (tiling.tile, tiling.starts) == (256, starts)


def test_mesmer_mirrors_an_axis_of_one_tile_and_puts_zeros_around_one_of_several() -> None:
    rules = [AxisRule("y", 256, 0), AxisRule("x", 256, 0)]

    tiling = plan_tiles({"y": 200, "x": 300}, rules, side=256, way=RECIPES["mesmer"].tiles)

    assert [tiling.pad(axis) for axis in tiling.axes] == ["reflect", "constant"]
    assert tiling.border_record() == {
        "pad": "reflect along y, constant along x",
        "margin": 0,
        "seams": "averaged",
    }


OMNIPOSE = [(64, (8, 8)), (65, (15, 16)), (100, (14, 14)), (511, (8, 9)), (735, (8, 9))]
"""Size of an image, and its padding by ``pad_image_ND(div=16, extra=1)`` of omnipose 1.1.4."""


@pytest.mark.parametrize(("image", "padding"), OMNIPOSE)
def test_omnipose_is_mirrored_on_both_sides_and_seen_in_one_piece(
    image: int, padding: tuple[int, int]
) -> None:
    flows = RECIPES["flows"]
    way = flows.tiles_for(4, 2, {})

    tiling = plan_tiles({"x": image}, [AxisRule("x", 64, 16, halo=48)], way=way)

    assert (tiling.axes[0].padding, tiling.pad(tiling.axes[0])) == (padding, "reflect")
    assert way == flows.tiles_for(3, 2, {"style": "omnipose"})
    assert flows.tiles_for(3, 2, {}) == flows.tiles_for(None, 2, {}) == flows.tiles


@pytest.mark.parametrize("image", [100, 304, 500, 511])
def test_boundaries_are_mirrored_by_the_halo_on_every_side(image: int) -> None:
    way = RECIPES["boundary"].tiles

    tiling = along(image, AxisRule("x", 64, 16, halo=40), 768, way)

    assert way.pad == "reflect"
    assert min(tiling.padding) >= 40
    assert sum(tiling.padding) < 80 + 16
    assert max(tiling.padding) - min(tiling.padding) <= 1


@pytest.mark.parametrize(("image", "margin"), [(255, 0), (256, 0), (257, 40)])
def test_an_image_that_fits_the_one_size_that_a_network_takes_gets_no_margin(
    image: int, margin: int
) -> None:
    way = RECIPES["boundary"].tiles

    tiling = plan_tiles({"x": image}, [AxisRule("x", 256, 0, halo=40)], way=way)

    assert (len(tiling.axes[0].starts) == 1) == (margin == 0)
    assert tiling.margin_px >= margin
    assert (tiling.margin_px == 0) == (margin == 0)


@any_case
def test_tiles_are_legal_and_cover_the_image_and_what_is_lost(
    image: int, rule: AxisRule, more: int
) -> None:
    side = enough(rule) + more

    tiling = along(image, rule, side)

    assert tiling.tile in rule.legal_sizes(max(side, tiling.tile))
    assert tiling.tile <= side
    assert tiling.padding[0] == rule.lost
    assert tiling.padding[1] >= rule.lost


@any_case
def test_what_is_kept_is_a_halo_away_from_inner_edges(
    image: int, rule: AxisRule, more: int
) -> None:
    tiling = along(image, rule, enough(rule) + more)

    for left, right, cut in zip(tiling.starts, tiling.starts[1:], tiling.cuts[1:-1], strict=False):
        assert cut - right >= rule.lost + rule.halo
        assert left + tiling.tile - cut >= rule.lost + rule.halo
        assert cut % rule.grid == 0


@any_case
def test_tiles_start_at_multiples_of_the_step(image: int, rule: AxisRule, more: int) -> None:
    tiling = along(image, rule, enough(rule) + more)

    assert {(start + rule.lost) % max(rule.step, 1) for start in tiling.starts} == {0}
    assert {(start + rule.lost) % rule.grid for start in tiling.starts} == {0}


@any_case
def test_one_tile_less_would_not_cover(image: int, rule: AxisRule, more: int) -> None:
    assume(rule.step > 0)
    largest = rule.legal_sizes(enough(rule) + more)[-1]
    align, halo = lcm(rule.step, rule.grid), -(-rule.halo // rule.grid) * rule.grid
    stride = (largest - 2 * (rule.lost + halo)) // align * align

    tiling = along(image, rule, enough(rule) + more)

    count = len(tiling.starts)
    assert count == 1 or (count - 2) * stride + largest < image + 2 * rule.lost


@pytest.mark.parametrize("image", [600, 900, 1000, 1024, 1388, 2048, 3000, 4096])
@pytest.mark.parametrize("step", [1, 8, 16, 32])
def test_planned_pixels_are_few(image: int, step: int) -> None:
    rules = [AxisRule("y", 64, step, 16), AxisRule("x", 64, step, 16)]

    tiling = plan_tiles({"y": image, "x": image}, rules)

    with_halos = image + 32 * (len(tiling.axes[0].starts) - 1)
    assert tiling.pixel_ratio <= 1.27
    assert tiling.pixel_ratio <= 1.12 * with_halos**2 / image**2


@pytest.mark.parametrize("image", [2048, 4096])
def test_a_unet_with_a_halo_of_32_px_sees_at_most_an_eighth_more_than_the_image(image: int) -> None:
    rules = [AxisRule(axis, 96, 16, 32) for axis in "yx"]

    tiling = plan_tiles({"y": image, "x": image}, rules)

    assert tiling.pixel_ratio <= 1.12
    assert prod(tiling.tile.values()) <= TILE_PX


@given(
    sizes=st.tuples(st.integers(1, 60), *[st.integers(1, 3000)] * 2),
    steps=st.tuples(*[st.sampled_from([1, 8, 16])] * 3),
    halo=st.sampled_from([0, 8, 16, 32, 64]),
    flat=st.booleans(),
)
def test_sides_that_are_chosen_together_cost_no_more_than_the_usual_ones(
    sizes: tuple[int, ...], steps: tuple[int, ...], halo: int, flat: bool
) -> None:
    axes = "yx" if flat else "zyx"
    shape = dict(zip("zyx", sizes, strict=True))
    rules = [
        AxisRule(axis, 16, step, halo // 4 if axis == "z" else halo)
        for axis, step in zip("zyx", steps, strict=True)
        if axis in axes
    ]
    usual = default_side(rules)

    tiling = plan_tiles(shape, rules)

    assert prod(tiling.tile.values()) <= max(TILE_PX, prod(usual.values()))
    assert tiling.pixel_ratio <= NEARLY * plan_tiles(shape, rules, side=usual).pixel_ratio


@pytest.mark.parametrize(("image", "count"), [(256, 1), (257, 2), (480, 2), (481, 3), (1024, 5)])
def test_a_fixed_tile_of_256_px_with_halo_16_covers_224_px_more_each_time(
    image: int, count: int
) -> None:
    tiling = along(image, AxisRule("x", 256, 0, 16), 512)

    assert len(tiling.starts) == count


def test_an_image_below_the_least_size_is_padded_at_its_end_only() -> None:
    tiling = along(100, AxisRule("x", 160, 32, 72), 64)

    assert tiling == AxisTiling("x", 100, 160, (0,), (0, 100))
    assert tiling.padding == (0, 60)


def test_a_valid_convolution_is_padded_on_both_sides() -> None:
    tiling = along(400, AxisRule("x", 572, 16, lost=92), 768)

    assert (tiling.tile, tiling.padding) == (588, (92, 96))


def test_starts_of_a_fixed_size_lie_on_multiples_of_16_where_that_costs_little() -> None:
    wide = along(1000, AxisRule("x", 256, 0, 18), 256)
    narrow = along(60, AxisRule("x", 20, 0, 4), 20)

    assert {start % 16 for start in wide.starts} == {0}
    assert {start % 4 for start in narrow.starts} == {0}
    assert narrow.starts[1] % 16


def test_an_output_of_twice_the_size_is_kept_pixel_by_pixel() -> None:
    output = OutputRule("yx", {"x": Fraction(1, 2)})

    tiling = along(300, AxisRule("x", 128, 0, 16), 128)

    assert tiling.image_output(output) == 600
    assert [kept.target for kept in tiling.kept(output)] == [
        slice(2 * a, 2 * b) for a, b in pairwise(tiling.cuts)
    ]


def test_outputs_that_lose_differently_share_one_tiling() -> None:
    tiling = along(300, AxisRule("x", 128, 16, grid=2, lost=8), 128)

    full, less = OutputRule("x"), OutputRule("x", {"x": 2}, {"x": 8})

    assert [kept.target.stop for kept in tiling.kept(full)] == list(tiling.cuts[1:])
    assert tiling.kept(full)[0].source.start == 8
    assert tiling.kept(less)[0].source.start == 0
    assert tiling.tile_output(less) == (tiling.tile - 16) // 2


def test_a_fixed_size_within_its_own_overlap_is_refused_with_the_numbers() -> None:
    with pytest.raises(HaloTooWide, match="300 px and needs several tiles of 64 px") as raised:
        along(300, AxisRule("x", 64, 0, 32), 64)

    assert raised.value.code == "size.halo"
    assert "overlap by 64 px" in raised.value.message


def test_the_tile_that_the_refusal_names_is_enough() -> None:
    rule = AxisRule("x", 160, 32, 72)
    with pytest.raises(HaloTooWide) as raised:
        along(1000, rule, 160)

    named = int(raised.value.hint.split()[1])

    assert along(1000, rule, named).tile == named


@given(rule=axis_rules())
def test_the_least_tile_is_the_smallest_of_which_something_is_left(rule: AxisRule) -> None:
    legal = rule.legal_sizes(rule.least_tile)

    assert legal[-1] == rule.least_tile
    assert largest_stride(rule, rule.least_tile)[0] > 0
    assert all(largest_stride(rule, size)[0] <= 0 for size in legal[:-1])


def test_the_refusal_counts_halos_that_lie_on_the_grid() -> None:
    with pytest.raises(HaloTooWide) as raised:
        along(1000, AxisRule("x", 9, 2, halo=1, grid=3), 9)

    assert "must overlap by 6 px and start at multiples of 6 px" in raised.value.message
    assert raised.value.hint == "--tile 15 or more"


def test_an_output_that_is_no_whole_number_of_pixels_is_refused() -> None:
    with pytest.raises(OffGrid, match="101 px"):
        along(50, AxisRule("x", 101, 0, grid=2), 200)
    with pytest.raises(OffGrid, match="takes 20 px"):
        along(50, AxisRule("x", 20, 0, lost=10), 200)  # of which nothing is left
    with pytest.raises(OffGrid):
        along(50, AxisRule("x", 100, 0), 200).kept(OutputRule("x", {"x": 3}))


def test_a_chosen_halo_is_16_to_48_px_and_leaves_half_of_a_tile() -> None:
    rules = [AxisRule("z", 20, 0), AxisRule("y", 256, 0), AxisRule("x", 1024, 0)]

    assert chosen_halos(rules) == {"z": 5, "y": 32, "x": 48}
    assert chosen_halos([AxisRule("x", 64, 16)], side=512) == {"x": 48}
    assert chosen_halos([AxisRule("x", 64, 16, lost=20)]) == {"x": 28}
    assert chosen_halos([AxisRule("x", 60, 0, grid=4)]) == {"x": 16}


def test_a_wide_halo_raises_the_default_side() -> None:
    assert default_side([AxisRule("y", 64, 16, 16)]) == {"y": 768}
    assert default_side([AxisRule("y", 64, 16, 128)]) == {"y": 1024}
    assert default_side([AxisRule("z", 16, 16, 16), AxisRule("y", 16, 16, 16)]) == {
        "z": 64,
        "y": 256,
    }


def test_in_a_stack_tiles_are_32_px_deep_and_256_px_wide() -> None:
    rules = [AxisRule(axis, 8, 8, 2) for axis in "zyx"]

    assert default_side(rules) == {"z": 32, "y": 256, "x": 256}


def test_what_is_lost_raises_the_default_side_as_a_halo_does() -> None:
    assert default_side([AxisRule("y", 64, 16, halo=100, lost=20)]) == {"y": 960}


def test_no_halo_is_chosen_where_the_network_loses_more() -> None:
    assert chosen_halos([AxisRule("x", 64, 16, lost=60)]) == {"x": 0}
    assert chosen_halos([AxisRule("x", 100, 0)]) == {"x": 16}
    assert chosen_halos([AxisRule("x", 64, 16, halo=500)]) == {"x": 48}


@pytest.mark.parametrize(
    ("rule", "most", "sizes"),
    [
        (AxisRule("x", 10, 2, grid=3), 30, [12, 18, 24, 30]),
        (AxisRule("x", 4, 1, grid=3, lost=1), 11, [5, 8, 11]),
        (AxisRule("x", 20, 2, lost=10), 26, [22, 24, 26]),
        (AxisRule("x", 10, 4, lost=10), 30, [22, 26, 30]),
        (AxisRule("x", 48, 16), 20, [48]),
        (AxisRule("x", 48, 0), 200, [48]),
    ],
)
def test_legal_sizes_leave_a_whole_number_of_pixels(
    rule: AxisRule, most: int, sizes: list[int]
) -> None:
    assert list(rule.legal_sizes(most)) == sizes


@pytest.mark.parametrize(
    ("rule", "stride", "align"),
    [
        (AxisRule("x", 20, 0, halo=7), 6, 2),  # 4 of 6 px would be less than three quarters
        (AxisRule("x", 64, 0, grid=3), 48, 48),  # just three quarters
        (AxisRule("x", 64, 0, grid=3, lost=3), 48, 48),  # of 58
        (AxisRule("x", 20, 0, halo=8, grid=5), 0, 5),
        (AxisRule("x", 64, 16, halo=20), 16, 16),
        (AxisRule("x", 64, 16, halo=25), 0, 16),
    ],
)
def test_a_stride_is_as_long_as_halo_and_alignment_allow(
    rule: AxisRule, stride: int, align: int
) -> None:
    assert largest_stride(rule, rule.least) == (stride, align)


def test_what_is_lost_at_both_ends_is_covered_and_no_more() -> None:
    rule = AxisRule("x", 256, 0, halo=16, lost=10)

    # a tile of 256 px keeps 192 px of each neighbour's start
    assert len(along(256 + 192 - 20, rule, 256).starts) == 2
    assert len(along(256 + 192 - 19, rule, 256).starts) == 3


def test_tiles_of_which_one_pixel_is_left_are_enough() -> None:
    tiling = along(5, AxisRule("x", 3, 1, halo=1), 3)

    assert (tiling.starts, tiling.cuts) == ((0, 1, 2), (0, 2, 3, 5))


def test_refusals_say_how_large_an_image_of_one_tile_may_be() -> None:
    with pytest.raises(HaloTooWide) as fixed:
        along(300, AxisRule("x", 64, 0, halo=30, lost=4), 64)
    with pytest.raises(HaloTooWide) as stepped:
        along(300, AxisRule("x", 64, 16, halo=30, lost=4), 64)

    assert "must overlap by 68 px and start at multiples of 1 px" in fixed.value.message
    assert fixed.value.hint == "give an image of at most 56 px, or tell the model's authors"
    assert "must overlap by 68 px and start at multiples of 16 px" in stepped.value.message
    assert stepped.value.hint == "--tile 96 or more"


def test_a_side_given_as_a_number_is_meant_for_y_and_x() -> None:
    rules = [AxisRule(axis, 8, 8, 2) for axis in "zyx"]

    tiling = plan_tiles({"z": 100, "y": 1000, "x": 1000}, rules, side=400)

    assert tiling.tile["z"] <= 32
    assert 256 < tiling.tile["y"] <= 400


def test_the_plan_says_tiles_sizes_overlaps_and_padding() -> None:
    rules = [AxisRule("y", 64, 16, 32), AxisRule("x", 64, 16, 32)]

    tiling = plan_tiles({"c": 3, "y": 2048, "x": 500}, rules)

    assert str(tiling).splitlines() == [
        "tiles   2, 1.06 x the pixels of the image",
        "y       2048 px: 2 tiles of 1056 px, overlapping by 64 px",
        "x       500 px: 1 tile of 512 px, padded by 0 + 12 px",
        "border  mirrored",
    ]


UNEVEN = AxisTiling("x", 250, 100, (0, 70, 150), (0, 85, 160, 250))


def test_the_overlap_is_that_of_the_neighbours_that_overlap_least() -> None:
    assert UNEVEN.overlap == 20
    assert AxisTiling("x", 80, 100, (0,), (0, 80)).overlap == 0


def test_a_tiling_is_told_in_words() -> None:
    alone = AxisTiling("y", 80, 100, (-10,), (0, 80))

    assert str(UNEVEN) == "x       250 px: 3 tiles of 100 px, overlapping by 20 px"
    assert str(AxisTiling("x", 150, 100, (0, 50), (0, 75, 150))) == (
        "x       150 px: 2 tiles of 100 px, overlapping by 50 px"
    )
    assert str(alone) == "y       80 px: 1 tile of 100 px, padded by 10 + 10 px"
    assert str(AxisTiling("y", 100, 100, (0,), (0, 100))) == "y       100 px: 1 tile of 100 px"
    assert str(AxisTiling("y", 95, 100, (0,), (0, 95))).endswith("padded by 0 + 5 px")


def test_what_is_kept_of_each_tile_lies_side_by_side() -> None:
    kept = UNEVEN.kept(OutputRule("bcyx"))

    assert [(one.source.start, one.source.stop) for one in kept] == [(0, 85), (15, 90), (10, 100)]
    assert [(one.target.start, one.target.stop) for one in kept] == [(0, 85), (85, 160), (160, 250)]


def test_what_a_network_loses_and_its_spacing_move_what_is_kept() -> None:
    tiling = AxisTiling("x", 90, 60, (-4, 34), (0, 44, 90))
    coarse = OutputRule("bcyx", spacing={"x": Fraction(2)}, lost={"x": 4})

    kept = tiling.kept(coarse)

    assert (tiling.tile_output(coarse), tiling.image_output(coarse)) == (26, 45)
    assert [(one.source.start, one.source.stop) for one in kept] == [(0, 22), (3, 26)]
    assert [(one.target.start, one.target.stop) for one in kept] == [(0, 22), (22, 45)]
    assert (tiling.tile_output(OutputRule("bcyx")), tiling.image_output(OutputRule("bcyx"))) == (
        60,
        90,
    )


def test_a_tile_needs_a_cut_on_either_side() -> None:
    with pytest.raises(ValueError, match="zip"):
        AxisTiling("x", 90, 60, (0, 30), (0, 90)).kept(OutputRule("bcyx"))


def test_a_cut_within_a_pixel_of_the_output_is_refused() -> None:
    with pytest.raises(OffGrid, match="2 px of the input"):
        AxisTiling("x", 90, 60, (0, 31), (0, 45, 90)).kept(
            OutputRule("bcyx", spacing={"x": Fraction(2)})
        )


@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ({"y": 256, "x": 256}, {"y": (16, 16), "x": (16, 16)}),
        ({"y": 1070, "x": 256}, {"y": (0, 2), "x": (16, 16)}),  # 1102 px would be two tiles
        ({"z": 20, "y": 200, "x": 200}, {"z": (0, 12), "y": (20, 20), "x": (20, 20)}),
    ],
    ids=["a plane", "what one tile holds", "a stack"],
)
def test_a_margin_by_the_halo_cuts_nothing_and_lies_around_planes_alone(
    shape: dict[str, int], padding: dict[str, tuple[int, int]]
) -> None:
    rules = [
        AxisRule(axis=axis, least=16, step=16, halo=8 if axis == "z" else 16, grid=1, lost=0)
        for axis in shape
    ]

    tiling = plan_tiles(shape, rules, way=RECIPES["boundary"].tiles)

    assert {along.axis: along.padding for along in tiling.axes} == padding
    assert tiling.count == 1


@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ({"y": 256, "x": 757}, {"y": (0, 0), "x": (0, 3)}),
        ({"y": 256, "x": 2048}, {"y": (0, 0), "x": (16, 16)}),
        ({"z": 30, "y": 512, "x": 197}, {"z": (0, 2), "y": (16, 16), "x": (0, 3)}),
        ({"z": 48, "y": 256, "x": 256}, {"z": (8, 8), "y": (0, 0), "x": (0, 0)}),
    ],
    ids=["one tile", "cut along x", "a stack cut along y", "a stack cut along z"],
)
def test_plantseg_mirrors_by_the_halo_along_the_axes_that_are_cut(
    shape: dict[str, int], padding: dict[str, tuple[int, int]]
) -> None:
    rules = [
        AxisRule(axis=axis, least=16, step=8, halo=8 if axis == "z" else 16, grid=1, lost=0)
        for axis in shape
    ]

    tiling = plan_tiles(shape, rules, way=RECIPES["gasp"].tiles)

    assert {along.axis: along.padding for along in tiling.axes} == padding
    assert tiling.way.pad == "reflect"
