"""What a plan says of itself: the lines of ``--plan`` and the values of the run record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.plan.test_plan import LIKE, PLAIN, model, planned, tensor

from bmz.base.axes import EMPTY_CHANNEL
from bmz.engine.image_header import ScaleUnknown
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.geometry import SizesUnclear
from bmz.plan.plan import sees_whole_image, tile_way, usual_batch, wide_side
from bmz.plan.recipe_choice import OutputUnclear, OutputUnknown, RecipeMissing, RecipeUnclear
from bmz.plan.tile_way import MIRRORED
from bmz.plan.tiling import AxisRule, plan_tiles
from bmz.plan.weights_choice import (
    PrecisionChoice,
    Trial,
    WeightsUnusable,
    choose_precision,
    choose_weights,
)
from bmz.process.recipes import RECIPES
from bmz.spec.model import AxisSpec, Fixed, Pad, Stepped

HALO = model(tensor("in", Stepped(16, 16)), tensor("out", LIKE, halo=16))
SEES_ALL = "the network sees its whole input at once"
DIFFERS = "objects may differ slightly from those of a run in one piece"
WIDE = replace(HALO, config={"bmz": {"receptive_field": {"global_context": True}}})


def test_a_plain_plan_is_told_in_six_lines() -> None:
    assert planned(HALO, (100, 60)).describe() == (
        "weights onnx on cpu in float32, batch 1",
        "loop    none: one pass",
        "take    channels 0",
        "resize  no",
        "tiles   1, 1.19 x the pixels of the image",
        "y       100 px: 1 tile of 112 px, padded by 0 + 12 px",
        "x       60 px: 1 tile of 64 px, padded by 0 + 4 px",
        "border  mirrored",
        "labels  none from 'out': ",
    )


def test_all_that_is_unusual_of_a_plan_is_told() -> None:
    plan = replace(
        planned(WIDE, (3, 2, 4, 2000, 60), axes="tczyx", channels=(1,), clip=99.5, tile=400),
        precision=PrecisionChoice("bfloat16", "twice as fast"),
        recipe=RecipeChoice("flows", "the channels say so", "flow"),
        parameters={"flow_threshold": 0.4, "min_size": 15},
    )

    lines = plan.describe()

    assert lines[:5] == (
        "weights onnx on cpu in bfloat16, batch 1",
        "        twice as fast",
        "loop    3 x t, 4 x z",
        "take    channels 1",
        "clip    above percentile 99.5 of each channel",
    )
    assert lines[-4:] == (
        f"        {SEES_ALL}, and got 6 tiles: {DIFFERS}",
        "labels  flows from 'flow': the channels say so",
        "        flow_threshold=0.4, min_size=15",
        "link    not over t and z: objects are counted in each",
    )


def test_a_network_that_sees_everything_in_one_tile_needs_no_note() -> None:
    whole = planned(WIDE, (1000, 1000))

    assert whole.sees_whole_image
    assert not any("sees its whole input" in line for line in whole.describe())
    assert whole.as_record()["whole_image_network"] is None


def test_channels_of_several_inputs_and_those_left_empty_are_told() -> None:
    two = model(
        tensor("in", Stepped(16, 16), channels=2), tensor("out", LIKE), inputs=(tensor("b", LIKE),)
    )

    plan = planned(two, (3, 64, 64), axes="cyx", channels=(2, EMPTY_CHANNEL, 0))

    assert plan.channels == ((2, -1), (0,))
    assert "take    channels 2,none | 0" in plan.describe()


def test_an_input_that_takes_any_number_of_channels_takes_all_of_them() -> None:
    entry = tensor("in", Stepped(16, 16))
    free = AxisSpec("c", "channel", Stepped(1, 1))
    spec = model(replace(entry, axes=(entry.axes[0], free, *entry.axes[2:])), tensor("out", LIKE))

    assert planned(spec, (5, 64, 64), axes="cyx").channels == ((0, 1, 2, 3, 4),)


def test_the_record_holds_every_number_of_the_plan() -> None:
    plan = planned(HALO, (2, 100, 1000), axes="zyx", scale=0.5, tile=256, clip=99.0)

    assert plan.as_record() == {
        "weights": "onnx",
        "device": "cpu",
        "precision": "float32",
        "precision_why": "",
        "backend": "native",
        "loop": {"z": 2},
        "channels": [[0]],
        "further": [],
        "clip": 99.0,
        "invert": False,
        "scale": 0.5,
        "shape": {"y": 50, "x": 500},
        "tile": {"y": 64, "x": 192},
        "tiles": 3,
        "overlap": {"y": 0, "x": 32},
        "padding": {"y": [0, 14], "x": [0, 12]},
        "pad": "reflect",
        "margin": 0,
        "seams": "cut",
        "batch": 1,
        "link": {},
        "link_gap": 0,
        "whole_image_network": None,
    }


@pytest.mark.parametrize(
    ("scale", "wanted"),
    [(None, {"y": 101, "x": 7}), (0.5, {"y": 50, "x": 3}), (1.5, {"y": 151, "x": 10}),
     (0.001, {"y": 1, "x": 1})],
)  # fmt: skip
def test_a_resized_shape_has_whole_pixels_and_at_least_one(
    scale: float | None, wanted: dict[str, int]
) -> None:
    assert planned(PLAIN, (101, 7), scale=scale).shape == wanted


def test_padding_with_another_number_than_zero_is_refused_by_name() -> None:
    zeros = model(tensor("in", Stepped(16, 16), pad=Pad("constant", 0.0)), tensor("out", LIKE))
    ones = model(tensor("in", Stepped(16, 16), pad=Pad("constant", 0.25)), tensor("out", LIKE))

    assert tile_way(zeros, MIRRORED).pad == "constant"
    with pytest.raises(SizesUnclear, match=r"declares for 'in' cannot be used: padding with 0\.25"):
        tile_way(ones, MIRRORED)


def test_the_batch_of_a_gpu_is_bounded_by_pixels_by_16_and_by_the_tiles_there_are() -> None:
    def batch(side: int, tile: int) -> int:
        rules = [AxisRule(axis, tile, 0) for axis in "yx"]
        return usual_batch("cuda:0", plan_tiles({"y": side, "x": side}, rules))

    assert batch(16 * 512, 512) == 16  # 2**22 px are 16 tiles of 512 px
    assert batch(16 * 256, 256) == 16
    assert batch(8 * 1024, 1024) == 4
    assert batch(2 * 4096, 4096) == 1
    assert batch(3 * 256, 256) == 9


def test_an_unnamed_batch_axis_or_a_fixed_one_makes_a_batch_of_one() -> None:
    entry = tensor("in", Stepped(16, 16))
    bare = model(replace(entry, axes=entry.axes[1:]), tensor("out", LIKE))
    second = model(entry, tensor("out", LIKE), inputs=(tensor("b", LIKE, batch=Fixed(1)),))
    optional = replace(tensor("b", LIKE, batch=Fixed(1)), optional=True)

    assert planned(bare, batch=8).batch == 1
    assert planned(second, (2, 64, 64), axes="cyx", batch=8).batch == 1
    assert planned(model(entry, tensor("out", LIKE), inputs=(optional,)), batch=8).batch == 8


def test_only_flat_networks_that_see_the_whole_image_get_the_wide_side() -> None:
    z = AxisSpec("z", "space", Stepped(8, 8))
    entry = WIDE.inputs[0]
    stack = replace(WIDE, inputs=(replace(entry, axes=(*entry.axes[:2], z, *entry.axes[2:])),))

    sides = [wide_side(spec, MIRRORED) for spec in (WIDE, HALO, stack)]
    assert sides == [1536, None, None]
    assert sees_whole_image(stack)
    assert not sees_whole_image(replace(HALO, config={"bmz": None}))


@pytest.mark.parametrize(
    ("took_s", "f1", "wanted"),
    [(1 / 1.1, 0.99, "bfloat16"), (0.92, 1.0, "float32"), (0.5, 0.9899, "float32")],
)
def test_a_tenth_of_the_time_and_a_hundredth_of_the_objects_decide(
    took_s: float, f1: float, wanted: str
) -> None:
    choice = choose_precision([Trial("float32", 1.0, 1.0), Trial("bfloat16", took_s, f1)])

    assert choice.name == wanted


def test_of_precisions_that_agree_the_fastest_is_chosen() -> None:
    trials = [Trial("bfloat16", 0.5, 1.0), Trial("float16", 0.4, 0.99), Trial("other", 0.3, 0.5)]

    assert choose_precision([Trial("float32", 1.0, 1.0), *trials]).name == "float16"


def test_a_choice_of_precision_tells_all_that_was_weighed() -> None:
    trials = [Trial("float32", 1.0, 1.0), Trial("bfloat16", 0.5, 0.5), Trial("float16", 0.25, 1)]

    assert choose_precision(trials) == PrecisionChoice(
        "float16",
        "compared with float32 on the test input: bfloat16 2.0 x as fast, F1 0.500; "
        "float16 4.0 x as fast, F1 1.000",
        gated=True,
    )
    assert (
        choose_precision(trials[:1]).why
        == "compared with float32 on the test input: nothing else could run"
    )
    assert (
        choose_precision([]).why
        == "the test input contains nothing to compare other precisions with"
    )


def test_weights_that_cannot_run_say_what_can() -> None:
    with pytest.raises(WeightsUnusable) as unknown:
        choose_weights(HALO, {"torchscript": ""}, None)
    with pytest.raises(WeightsUnusable) as missing:
        choose_weights(replace(HALO, weights=()), {"torchscript": "", "onnx": ""}, None)

    assert unknown.value.message == "no weights of 'm' can run: it ships onnx"
    assert unknown.value.hint == (
        "this version runs torchscript; convert the weights, or use another model"
    )
    assert missing.value.message == "no weights of 'm' can run: it ships no format that bmz knows"


def test_refusals_of_a_recipe_say_how_to_go_on() -> None:
    unclear = OutputUnclear("m", ("cells", "nuclei"))

    assert unclear.message == (
        "'m' has 2 outputs (cells, nuclei): it is unclear which one becomes the label mask"
    )
    assert unclear.hint == "choose one: --set output=cells"
    assert OutputUnknown("m", "rays", ("cells", "nuclei")).hint == "its outputs are: cells, nuclei"
    named = RecipeUnclear("m", "w").hint.removeprefix("choose with --recipe: ")
    assert named == ", ".join([*RECIPES, "none (none: keep the raw output)"])
    assert RecipeMissing("m", "w").message == "there is no label recipe for 'm': w"
    assert ScaleUnknown("m").hint.endswith("or the factor itself: --scale 0.5")
