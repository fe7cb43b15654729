from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.check.fit_case import FitCase
from bmz.image.info import ImageInfo
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.geometry import SizesUnclear, axis_rules, output_rules
from bmz.plan.plan import Plan, RunChoices, make_plan, tile_way, with_smaller_tiles
from bmz.plan.tile_way import MIRRORED, Blend, TileWay
from bmz.plan.weights_choice import WeightsNotShipped, WeightsUnusable, choose_weights
from bmz.spec.model import (
    AnySize,
    AxisSpec,
    Fixed,
    LikeAxis,
    ModelSpec,
    PackagedFile,
    Pad,
    Size,
    Stepped,
    TensorSpec,
    Weights,
)

ONNX = Weights("onnx", PackagedFile(Path("weights.onnx")))
STATE_DICT = Weights("pytorch_state_dict", PackagedFile(Path("weights.pt")))


def tensor(id_: str, size: Size, *, halo: int = 0, scale: float = 1.0, **more: Any) -> TensorSpec:
    batch = more.pop("batch", AnySize())
    axes = (
        AxisSpec("b", "batch", batch),
        AxisSpec("c", "channel", Fixed(more.pop("channels", 1))),
        *(
            AxisSpec(
                a, "space", replace(size, axis=a) if isinstance(size, LikeAxis) else size,
                halo, scale, more.get("unit"),
            )
            for a in "yx"
        ),
    )  # fmt: skip
    return TensorSpec(id_, axes, "float32", pad=more.get("pad"), steps=more.get("steps", ()))


def model(entry: TensorSpec, *outputs: TensorSpec, **more: Any) -> ModelSpec:
    weights = more.pop("weights", (ONNX,))
    inputs = (entry, *more.pop("inputs", ()))
    return ModelSpec("m", "M", Path(), "0" * 64, "0.5.4", inputs, outputs, weights, **more)


LIKE = LikeAxis("in", "y")
PLAIN = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE))


def planned(spec: ModelSpec, shape: tuple[int, ...] = (100, 60), **more: Any) -> Plan:
    axes = more.pop("axes", "yx")
    info = ImageInfo(Path("a.tif"), axes, shape, np.dtype("uint8"))
    case = FitCase(spec, info, more.pop("channels", None), more.pop("scale", None))
    device = more.pop("device", "cpu")
    return make_plan(case, RunChoices(ONNX, device, RecipeChoice("none", "", "out"), **more))


def test_an_output_of_half_the_size_lies_on_a_grid_of_two() -> None:
    stars = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE, scale=2.0, halo=8))

    rule = output_rules(stars)[0]

    assert rule.spacing == {"y": 2, "x": 2}
    assert [(r.grid, r.halo) for r in axis_rules(stars)] == [(2, 16), (2, 16)]


def test_a_valid_convolution_loses_its_offset_on_both_sides() -> None:
    valid = model(tensor("in", Stepped(64, 16)), tensor("out", LikeAxis("in", "y", -20)))

    assert output_rules(valid)[0].lost == {"y": 10, "x": 10}
    assert planned(valid, (64, 64)).tiling.tile == {"y": 96, "x": 96}


@pytest.mark.parametrize(
    ("given", "spacing", "lost"),
    [(64, 1, 0), (32, 2, 0), (16, 4, 0), (44, 1, 10), (128, Fraction(1, 2), 0)],
)
def test_fixed_sizes_tell_grid_or_loss(given: int, spacing: Fraction, lost: int) -> None:
    fixed = model(tensor("in", Fixed(64)), tensor("out", Fixed(given)))

    rule = output_rules(fixed)[0]

    assert (rule.spacing["y"], rule.lost["y"]) == (spacing, lost)


def test_an_output_larger_than_its_input_for_no_reason_is_refused() -> None:
    strange = model(tensor("in", Stepped(16, 16)), tensor("out", LikeAxis("in", "y", 6)))

    with pytest.raises(SizesUnclear):
        output_rules(strange)


def test_an_undeclared_halo_is_the_receptive_field_or_chosen() -> None:
    known = replace(PLAIN, config={"bmz": {"receptive_field": {"radius_px": 40}}})

    assert [rule.halo for rule in axis_rules(known)] == [40, 40]
    assert all(rule.halo >= 16 for rule in axis_rules(PLAIN))


def test_the_scale_changes_the_shape_that_the_network_works_on() -> None:
    plan = planned(PLAIN, (354, 475), scale=0.5)

    assert plan.shape == {"y": 177, "x": 237}


def test_channels_are_shared_out_to_the_inputs_in_order() -> None:
    two = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE), inputs=(tensor("b", LIKE),))

    plan = planned(two, (2, 64, 64), axes="cyx", channels=(1, 0))

    assert plan.channels == ((1,), (0,))


def test_a_fixed_batch_axis_makes_the_batch_one() -> None:
    single = model(tensor("in", Stepped(16, 16), batch=Fixed(1)), tensor("out", LIKE))

    assert planned(single, batch=8).batch == 1
    assert planned(PLAIN, batch=8).batch == 8


def test_extra_planes_are_looped_over() -> None:
    assert planned(PLAIN, (4, 3, 64, 64), axes="tzyx").loop == {"t": 4, "z": 3}


ZEROS = TileWay("constant", 8, 64, Blend(0.1, 20, 7.5))


def test_a_declared_padding_wins_over_that_of_the_family() -> None:
    edge = model(tensor("in", Stepped(16, 16), pad=Pad("edge")), tensor("out", LIKE))
    ones = model(tensor("in", Stepped(16, 16), pad=Pad("constant", 1.0)), tensor("out", LIKE))

    assert tile_way(PLAIN, ZEROS) == ZEROS
    assert tile_way(PLAIN, MIRRORED) == MIRRORED
    assert tile_way(edge, ZEROS) == replace(ZEROS, pad="edge")
    with pytest.raises(SizesUnclear):
        tile_way(ones, MIRRORED)


def test_tiles_are_averaged_only_where_nothing_says_how_they_become_the_whole() -> None:
    halo = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE, halo=16))
    ends = replace(PLAIN, config={"bmz": {"receptive_field": {"radius_px": 20}}})
    seen = {"radius_px": 20, "global_context": True}
    sees_all = replace(PLAIN, config={"bmz": {"receptive_field": seen}})
    about_all = replace(PLAIN, outputs=(PLAIN.outputs[0], TensorSpec("style", (), "float32")))

    for spec in (halo, ends, about_all):
        assert tile_way(spec, ZEROS) == TileWay("constant", 8)
    assert tile_way(sees_all, ZEROS) == ZEROS


def test_the_margin_of_a_family_lies_on_every_side_also_where_the_size_is_legal() -> None:
    plan = planned(PLAIN, (64, 50), way=ZEROS)

    padding = {along.axis: along.padding for along in plan.tiling.axes}
    assert padding == {"y": (8, 8), "x": (15, 15)}
    assert plan.as_record()["margin"] == 8
    assert plan.as_record()["pad"] == "constant"
    assert "border  zeros, 8 px or more on every side" in plan.describe()


def test_the_side_of_a_family_counts_unless_the_user_says_another() -> None:
    assert planned(PLAIN, (300, 300), way=ZEROS).tiling.tile == {"y": 64, "x": 64}
    assert planned(PLAIN, (300, 300), way=ZEROS, tile=128).tiling.tile == {"y": 128, "x": 128}
    assert planned(PLAIN, (300, 300), way=ZEROS).as_record()["seams"] == "averaged"


def test_smaller_tiles_keep_the_margin_and_the_average() -> None:
    plan = planned(PLAIN, (300, 300), way=replace(ZEROS, side_px=128))

    smaller = with_smaller_tiles(plan, PLAIN)

    assert smaller is not None
    assert smaller.tiling.way == plan.tiling.way
    assert min(smaller.tiling.axes[0].padding) >= 8


def test_a_network_that_sees_the_whole_image_gets_larger_tiles() -> None:
    wide = replace(PLAIN, config={"bmz": {"receptive_field": {"global_context": True}}})

    assert planned(wide, (1200, 1200)).tiling.count == 1
    assert planned(PLAIN, (1200, 1200)).tiling.count > 1
    assert planned(wide, (1200, 1200), tile=400).tiling.count > 1


def test_formats_without_code_come_first() -> None:
    both = replace(PLAIN, weights=(STATE_DICT, ONNX))

    assert choose_weights(both, {"onnx": "", "pytorch_state_dict": ""}, None) == ONNX


def test_a_missing_framework_comes_with_the_line_that_installs_it() -> None:
    with pytest.raises(WeightsUnusable) as caught:
        choose_weights(PLAIN, {"onnx": "pip install 'bmz[onnx]'"}, None)

    assert caught.value.hint == "pip install 'bmz[onnx]'"
    assert caught.value.code == "weights.no-backend"


def test_weights_that_the_model_does_not_ship_are_wrong_usage() -> None:
    with pytest.raises(WeightsNotShipped) as caught:
        choose_weights(PLAIN, {"onnx": ""}, "torchscript")

    assert caught.value.exit_status == 2
    assert "onnx" in caught.value.hint


def test_the_plan_tells_each_decision_in_one_line() -> None:
    lines = planned(
        PLAIN, (2, 100, 60), axes="zyx", scale=0.5, parameters={"threshold": 0.4}
    ).describe()

    text = "\n".join(lines)
    assert "onnx on cpu" in text
    assert "2 x z" in text
    assert "x 0.5, to y 50 x x 30" in text
    assert "threshold=0.4" in text


@pytest.mark.parametrize(
    ("device", "shape", "wanted"),
    [("cpu", (4000, 4000), 1), ("cuda:0", (4000, 4000), 3), ("cuda:0", (700, 2400), 2),
     ("cuda:0", (64, 64), 1)],
)  # fmt: skip
def test_a_gpu_gets_several_tiles_at_once_as_far_as_there_are_any(
    device: str, shape: tuple[int, int], wanted: int
) -> None:
    assert planned(PLAIN, shape, device=device).batch == wanted


def test_smaller_tiles_have_half_the_side_and_end_at_the_least_legal_one() -> None:
    field = {"bmz": {"receptive_field": {"radius_px": 8}}}
    local = replace(PLAIN, config=field)
    plan: Plan | None = planned(local, (1000, 1000), batch=4)
    tiles = []

    while plan is not None:
        tiles.append(plan.tiling.tile["y"])
        last, plan = plan, with_smaller_tiles(plan, local)

    assert all(small <= large // 2 + 16 for large, small in pairwise(tiles))
    half = planned(local, (1000, 1000), tile=tiles[0] // 2).tiling
    assert half.tile["y"] == tiles[1]
    assert tiles[-1] <= 48
    assert (last.batch, last.shape) == (1, {"y": 1000, "x": 1000})
    assert all(axis.tile % 16 == 0 for axis in last.tiling.axes)


def test_a_declared_halo_bounds_how_small_a_tile_can_be() -> None:
    wide = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE, halo=64))
    plan: Plan | None = planned(wide, (1000, 1000))

    while plan is not None:
        least, plan = plan.tiling.tile["y"], with_smaller_tiles(plan, wide)

    assert least == 144  # twice 64 px, and 16 px that are kept


def test_an_output_about_the_whole_image_leaves_no_smaller_tile() -> None:
    answer = TensorSpec("out", (AxisSpec("b", "batch", AnySize()),), "float32")
    whole = model(tensor("in", Stepped(16, 16)), answer)

    beside = model(tensor("in", Stepped(16, 16)), tensor("map", LIKE), answer)

    assert with_smaller_tiles(planned(whole), whole) is None
    assert with_smaller_tiles(planned(beside, (1000, 1000)), beside) is None
    assert with_smaller_tiles(planned(PLAIN, (1000, 1000)), PLAIN) is not None
