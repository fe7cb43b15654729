"""What declared sizes, scales, offsets and halos mean in pixels of the input."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from tests.plan.test_plan import LIKE, PLAIN, model, tensor

from bmz.base.axes import Step
from bmz.plan.geometry import SizesUnclear, axis_rules, output_rules
from bmz.plan.tiling import AxisRule
from bmz.spec.model import (
    AnySize,
    AxisSpec,
    Fixed,
    LikeAxis,
    ModelSpec,
    Size,
    Stepped,
    TensorSpec,
)

STEPPED = tensor("in", Stepped(16, 16))


def first_rule(spec: ModelSpec) -> AxisRule:
    return axis_rules(spec)[0]


def test_spacings_along_a_chain_of_outputs_multiply() -> None:
    half = tensor("half", LIKE, scale=2.0)
    quarter = tensor("quarter", LikeAxis("half", "y"), scale=4.0)

    rules = output_rules(model(STEPPED, half, quarter))

    assert [dict(rule.spacing) for rule in rules] == [{"y": 2, "x": 2}, {"y": 4, "x": 4}]
    assert [dict(rule.lost) for rule in rules] == [{"y": 0, "x": 0}, {"y": 0, "x": 0}]


def test_what_is_lost_along_a_chain_of_outputs_adds_up_in_pixels_of_the_input() -> None:
    half = tensor("half", LikeAxis("in", "y", -6), scale=2.0)
    same = tensor("same", LikeAxis("half", "y", -4), scale=2.0)

    rules = output_rules(model(STEPPED, half, same))

    # 6 px of 2 px are 12 px, half of them on each side; 4 more px of 2 px are 4 px a side
    assert [rule.lost["y"] for rule in rules] == [6, 10]
    assert [rule.spacing["y"] for rule in rules] == [2, 2]


def test_what_a_coarser_output_loses_of_another_is_counted_in_its_own_pixels() -> None:
    half = tensor("half", LIKE, scale=2.0)
    quarter = tensor("quarter", LikeAxis("half", "y", -6), scale=4.0)

    rule = output_rules(model(STEPPED, half, quarter))[1]

    assert (rule.spacing["y"], rule.lost["y"]) == (4, 12)


def test_of_a_chain_of_outputs_the_one_that_cannot_be_is_named() -> None:
    first = tensor("first", LikeAxis("second", "y"))

    with pytest.raises(SizesUnclear, match="declares for 'second' cannot"):
        output_rules(model(STEPPED, first, tensor("second", LikeAxis("in", "y", -3))))


def test_an_output_with_depth_of_an_input_without_has_no_rule_for_it() -> None:
    out = tensor("out", LIKE)
    deep = replace(out, axes=(*out.axes[:2], AxisSpec("z", "space", Fixed(5)), *out.axes[2:]))

    rule = output_rules(model(STEPPED, deep))[0]

    assert (rule.axes, dict(rule.spacing)) == ("bczyx", {"y": 1, "x": 1})


def test_a_network_whose_labels_a_declared_step_enlarges_gives_a_coarser_map() -> None:
    stars = Step("stardist_postprocessing", {"grid": (4, 2), "n_rays": 32, "b": 2})
    labels = replace(tensor("out", LIKE), steps=(Step("sigmoid", {}), stars))

    rule = output_rules(model(STEPPED, labels))[0]

    assert dict(rule.spacing) == {"y": 4, "x": 2}


def test_an_output_of_twice_the_size_has_half_the_spacing() -> None:
    spec = model(STEPPED, tensor("out", LikeAxis("in", "y", -8), scale=0.5))

    rule = output_rules(spec)[0]

    assert rule.spacing == {"y": Fraction(1, 2), "x": Fraction(1, 2)}
    assert rule.lost == {"y": 2, "x": 2}
    assert first_rule(spec).grid == 1


def test_pixel_sizes_of_a_microscope_make_a_whole_ratio() -> None:
    entry = tensor("in", Stepped(16, 16), scale=0.325)

    rule = output_rules(model(entry, tensor("out", LIKE, scale=0.65)))[0]

    assert rule.spacing == {"y": 2, "x": 2}


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (LikeAxis("in", "y", -5), "it would lose 2.5 px per side"),
        (LikeAxis("in", "y", 4), "it would lose -2 px per side"),
    ],
)
def test_half_pixels_and_pixels_from_nowhere_are_refused(size: LikeAxis, why: str) -> None:
    with pytest.raises(SizesUnclear) as caught:
        output_rules(model(STEPPED, tensor("out", size)))

    assert caught.value.message == f"the sizes that 'm' declares for 'out' cannot be used: {why}"
    assert caught.value.code == "package.sizes"
    assert caught.value.exit_status == 3


def test_fixed_sizes_that_differ_by_an_odd_number_are_refused() -> None:
    with pytest.raises(SizesUnclear, match=r"it would lose 1\.5 px per side"):
        output_rules(model(tensor("in", Fixed(64)), tensor("out", Fixed(61))))


def test_a_declared_scale_of_fixed_sizes_is_taken_before_their_ratio() -> None:
    coarse = tensor("out", Fixed(32), scale=2.0)
    cut = tensor("out", Fixed(30), scale=2.0)

    assert output_rules(model(tensor("in", Fixed(64)), coarse))[0].lost["y"] == 0
    assert output_rules(model(tensor("in", Fixed(64)), cut))[0].lost["y"] == 2
    assert output_rules(model(tensor("in", Fixed(64)), cut))[0].spacing["y"] == 2


@pytest.mark.parametrize("given", [Fixed(7), AnySize()])
def test_a_size_that_says_nothing_of_the_input_lies_on_it_as_its_scale_says(given: Size) -> None:
    rule = output_rules(model(STEPPED, tensor("out", given, scale=4.0)))[0]

    assert (rule.spacing["y"], rule.lost["y"]) == (4, 0)


@pytest.mark.parametrize(("named", "axis"), [("in", "t"), ("nothing", "y")])
def test_a_size_like_that_of_an_axis_that_is_not_there_is_refused(named: str, axis: str) -> None:
    out = tensor("out", LIKE)
    wrong = replace(out, axes=(*out.axes[:2], AxisSpec("y", "space", LikeAxis(named, axis))))

    with pytest.raises(SizesUnclear, match=f"'{named}' cannot be used: it has no axis {axis}"):
        output_rules(model(STEPPED, wrong))


def test_axes_of_objects_are_no_part_of_the_image() -> None:
    out = tensor("masks", AnySize())
    objects = replace(out, axes=(AxisSpec("s", "space", AnySize()), *out.axes))
    spec = model(STEPPED, objects)

    assert output_rules(spec)[0].axes == "SbCYX"
    assert output_rules(spec)[0].spacing == {}
    assert (first_rule(spec).grid, first_rule(spec).lost) == (1, 0)


def test_an_output_without_axes_of_space_asks_nothing_of_the_tiles() -> None:
    answer = TensorSpec("class", (AxisSpec("b", "batch", AnySize()),), "float32")

    rule = output_rules(model(STEPPED, answer))[0]

    assert (rule.axes, dict(rule.spacing), dict(rule.lost)) == ("b", {}, {})


def test_the_grid_is_one_on_which_all_outputs_lie() -> None:
    spec = model(STEPPED, tensor("two", LIKE, scale=2.0), tensor("three", LIKE, scale=3.0))

    assert first_rule(spec).grid == 6


@pytest.mark.parametrize(
    ("scale", "halo", "wanted"), [(1.0, 5, 5), (2.0, 5, 10), (0.5, 6, 3), (0.5, 5, 3)]
)
def test_a_halo_is_counted_in_pixels_of_its_output_and_never_made_smaller(
    scale: float, halo: int, wanted: int
) -> None:
    spec = model(STEPPED, tensor("out", LIKE, scale=scale, halo=halo))

    assert first_rule(spec).halo == wanted


def test_the_widest_halo_and_the_greatest_loss_of_all_outputs_hold() -> None:
    narrow = tensor("a", LikeAxis("in", "y", -8), halo=20)
    wide = tensor("b", LikeAxis("in", "y", -24), halo=4)

    rule = first_rule(model(STEPPED, narrow, wide))

    assert (rule.halo, rule.lost) == (20, 12)


@pytest.mark.parametrize(
    ("size", "least", "step"),
    [(Stepped(48, 16), 48, 16), (Fixed(256), 256, 0), (AnySize(), 1, 1)],
)
def test_a_size_becomes_a_least_one_and_a_step(size: Size, least: int, step: int) -> None:
    rule = first_rule(model(tensor("in", size), tensor("out", LIKE, halo=1)))

    assert (rule.axis, rule.least, rule.step) == ("y", least, step)


def test_a_size_like_that_of_another_input_is_the_size_of_that_input() -> None:
    first = tensor("in", LikeAxis("other", "y"))
    spec = model(first, tensor("out", LIKE), inputs=(tensor("other", Stepped(32, 8)),))

    assert (first_rule(spec).least, first_rule(spec).step) == (32, 8)


def test_an_optional_input_does_not_say_how_large_the_image_must_be() -> None:
    prompt = replace(tensor("prompt", Fixed(7)), optional=True)
    spec = model(prompt, tensor("out", LIKE), inputs=(STEPPED,))

    assert (first_rule(spec).least, first_rule(spec).step) == (16, 16)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [({"radius_px": 40}, 40), ({"radius_px": 12.2}, 13), ({"radius_px": 0}, 0)],
)
def test_a_known_receptive_field_is_the_halo(field: dict[str, Any], wanted: int) -> None:
    spec = replace(PLAIN, config={"bmz": {"receptive_field": field}})

    assert [rule.halo for rule in axis_rules(spec)] == [wanted, wanted]


@pytest.mark.parametrize(
    "config", [{}, {"bmz": None}, {"bmz": {"receptive_field": None}},
               {"bmz": {"receptive_field": {"radius_px": "wide"}}}, {"bmz": "wide"},
               {"bmz": {"receptive_field": "wide"}}],
)  # fmt: skip
def test_without_a_known_field_the_halo_hangs_on_the_tile(config: dict[str, Any]) -> None:
    spec = replace(PLAIN, config=config)

    assert [rule.halo for rule in axis_rules(spec)] == [48, 48]
    assert [rule.halo for rule in axis_rules(spec, side=160)] == [20, 20]


def test_a_declared_halo_is_taken_before_a_known_receptive_field() -> None:
    declared = model(STEPPED, tensor("out", LIKE, halo=8))
    spec = replace(declared, config={"bmz": {"receptive_field": {"radius_px": 40}}})

    assert [rule.halo for rule in axis_rules(spec)] == [8, 8]
