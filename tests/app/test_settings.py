from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bmz.base.axes import Step
from bmz.engine.attempts import parameters_of
from bmz.engine.labelling import RecipeUnknown, SettingRefused, decide_labelling, network_way
from bmz.plan.tile_way import TileWay
from bmz.process.flows import OMNIPOSE_TILES, TILES
from bmz.process.recipe import ParameterRefused
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, TensorSpec

AXES = (
    AxisSpec("c", "channel", Fixed(1)),
    AxisSpec("y", "space", Fixed(64)),
    AxisSpec("x", "space", Fixed(64)),
)
STARDIST = Step(
    "stardist_postprocessing", {"prob_threshold": 0.4, "nms_threshold": 0.5, "grid": (1, 1), "b": 2}
)
CAST = Step("ensure_dtype", {"dtype": "int32"})
MASK = Step("binarize", {"threshold": 0.5})


def model(*steps: Step) -> ModelSpec:
    output = TensorSpec("out", AXES, "float32", steps)
    return ModelSpec("m", "M", Path(), "0" * 64, "0.5.4", (), (output,), (), tags=("segmentation",))


def test_a_page_offers_the_arguments_that_a_declared_step_states_before_those_of_all() -> None:
    labelling = decide_labelling(model(STARDIST, CAST), recipe=None, settings={})

    controls = parameters_of(cast("Any", SimpleNamespace(labelling=labelling)))

    own = {control["name"]: control["value"] for control in controls if control["own"]}
    assert own == {"prob_threshold": 0.4, "nms_threshold": 0.5}  # and no grid: it is of the network
    assert [control["name"] for control in controls[:2]] == list(own)
    assert {"min_size", "max_size"} < {control["name"] for control in controls}


def test_a_word_for_a_declared_step_changes_its_argument() -> None:
    settings = {"prob_threshold": "0.7", "b": "0"}

    labelling = decide_labelling(model(STARDIST, CAST), recipe=None, settings=settings)

    assert labelling.choice.name == "labels"
    assert labelling.label_steps[0].kwargs == {**STARDIST.kwargs, "prob_threshold": 0.7, "b": 0}
    assert labelling.label_steps[1] == CAST
    assert labelling.map_steps == ()


def test_a_word_for_the_recipe_wins_over_a_declared_step_of_the_same_name() -> None:
    labelling = decide_labelling(model(MASK), recipe=None, settings={"threshold": "0.9"})

    assert labelling.parameters["threshold"] == 0.9
    assert labelling.map_steps == (MASK,)


def test_another_recipe_replaces_the_declared_label_step() -> None:
    labelling = decide_labelling(model(STARDIST, CAST), recipe="stardist", settings={})

    assert labelling.label_steps == ()
    assert labelling.map_steps == ()


def flows_of(maps: int, space: str = "yx", **stated: str) -> ModelSpec:
    axes = (
        AxisSpec("c", "channel", Fixed(maps)),
        *(AxisSpec(a, "space", Fixed(64)) for a in space),
    )
    image = TensorSpec("in", (AXES[0], *axes[1:]), "float32", ())
    config = {"bmz": {"recipe": {"name": "flows", "parameters": stated}}}
    output = TensorSpec("out", axes, "float32", ())
    return replace(model(), inputs=(image,), outputs=(output,), config=config)


@pytest.mark.parametrize("recipe", [None, "none", "components"])
def test_the_border_of_flows_is_that_of_the_tool_whose_maps_they_are(recipe: str | None) -> None:
    def way(net: ModelSpec) -> TileWay:
        return network_way(net, decide_labelling(net, recipe=recipe, settings={}).choice)

    assert way(flows_of(4)) == way(flows_of(3, style="omnipose")) == OMNIPOSE_TILES
    assert way(flows_of(3)) == way(flows_of(4, style="cellpose")) == TILES
    assert way(flows_of(5, "zyx")) == OMNIPOSE_TILES
    # the flows of planes, given as a stack
    assert way(flows_of(3, "zyx")) == TILES


def test_no_recipe_keeps_the_map() -> None:
    labelling = decide_labelling(model(MASK), recipe="none", settings={})

    assert labelling.recipe is None
    assert labelling.map_steps == (MASK,)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"prob_threshold": "high"}, SettingRefused),
        ({"grid": "2"}, SettingRefused),
        ({"diameter": "30"}, ParameterRefused),
        ({"OUTPUT": "out"}, ParameterRefused),
    ],
)
def test_words_that_suit_nothing_are_wrong_usage(
    settings: dict[str, str], error: type[SettingRefused | ParameterRefused]
) -> None:
    with pytest.raises(error) as caught:
        decide_labelling(model(STARDIST), recipe=None, settings=settings)

    assert caught.value.exit_status == 2


@pytest.mark.parametrize("text", ["-1", "2", "half"])
def test_a_parameter_outside_its_range_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ParameterRefused, match="threshold") as caught:
        decide_labelling(model(MASK), recipe="stardist", settings={"prob_threshold": text})

    assert "prob_threshold" in caught.value.hint


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RecipeUnknown) as caught:
        decide_labelling(model(MASK), recipe="watershed", settings={})

    assert "boundary" in caught.value.hint


def test_the_record_holds_the_words_of_the_declared_steps() -> None:
    spec = replace(model(MASK), id="m")

    record = decide_labelling(spec, recipe=None, settings={}).as_record()

    assert record["declared"] == ["binarize(threshold=0.5)"]
    assert record["name"] == "components"
