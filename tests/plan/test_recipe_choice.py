from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bmz.base.steps import Step
from bmz.plan.errors import MakesNoLabels, OutputUnclear, OutputUnknown, RecipeUnclear
from bmz.plan.recipe_choice import choose_recipe
from bmz.spec.errors import PackageInvalid
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, TensorSpec
from bmz.spec.read import read_model


def output(*names: str, channels: int | None = None, id_: str = "out", **more: Any) -> TensorSpec:
    count = channels if channels is not None else max(len(names), 1)
    axes = (
        AxisSpec("b", "batch", Fixed(1)),
        AxisSpec("c", "channel", Fixed(count), names=names),
        AxisSpec("y", "space", Fixed(64)),
        AxisSpec("x", "space", Fixed(64)),
    )
    return TensorSpec(id_, axes, more.pop("dtype", "float32"), **more)


def model(
    *outputs: TensorSpec, tags: tuple[str, ...] = ("segmentation",), **more: Any
) -> ModelSpec:
    return ModelSpec("m", "M", Path(), "0" * 64, "0.5.4", (), outputs, (), tags=tags, **more)


def test_a_declared_label_op_wins_over_everything() -> None:
    steps = (Step("stardist_postprocessing", {"prob_threshold": 0.4}),)
    config = {"stardist": {"thresholds": {"prob": 0.1, "nms": 0.1}}}

    choice = choose_recipe(model(output("label", steps=steps), config=config))

    assert choice.name == "labels"
    assert "stardist_postprocessing" in choice.why


def test_thresholds_in_config_make_a_stardist_model() -> None:
    config = {"stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}}}

    choice = choose_recipe(model(output(channels=33), config=config))

    assert choice.name == "stardist"
    assert choice.parameters == {"prob_threshold": 0.4, "nms_threshold": 0.5}


@pytest.mark.parametrize(
    ("tensor", "recipe", "parameters"),
    [
        (output("background", "contour", "nucleus"), "boundary", (2, 1)),
        (output("foreground", "boundary"), "boundary", (0, 1)),
        (output("boundary"), "boundary", (-1, 0)),
        (output("cell membrane"), "boundary", (-1, 0)),
    ],
)
def test_names_of_channels_tell_boundary_and_foreground(
    tensor: TensorSpec, recipe: str, parameters: tuple[int, int]
) -> None:
    choice = choose_recipe(model(tensor))

    foreground, boundary = parameters
    assert choice.name == recipe
    assert choice.parameters == {"foreground_channel": foreground, "boundary_channel": boundary}


@pytest.mark.parametrize(
    ("tensor", "recipe"),
    [
        (output("probability", value_range=(0.0, 1.0)), "components"),
        (output(steps=(Step("sigmoid"),)), "components"),
        (output(steps=(Step("binarize", {"threshold": 0.5}),)), "components"),
        (output("label", dtype="uint16"), "labels"),
        (output(channels=4, steps=(Step("softmax", {"axis": "c"}),)), "argmax"),
    ],
)
def test_probabilities_masks_labels_and_classes_are_told_apart(
    tensor: TensorSpec, recipe: str
) -> None:
    assert choose_recipe(model(tensor)).name == recipe


def test_two_maps_without_a_name_are_never_guessed() -> None:
    with pytest.raises(RecipeUnclear) as caught:
        choose_recipe(model(output(channels=2)))

    assert caught.value.exit_status == 3
    assert "--recipe" in caught.value.hint
    assert "watershed" not in caught.value.hint


def test_the_word_of_the_user_wins_and_keeps_fitting_evidence() -> None:
    config = {"stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}}}
    stars = model(output(channels=33), config=config)

    assert choose_recipe(stars, recipe="components").parameters == {}
    assert choose_recipe(stars, recipe="stardist").parameters["prob_threshold"] == 0.4


def test_several_outputs_are_asked_about() -> None:
    two = model(output(id_="cells", value_range=(0, 1)), output(id_="nuclei", value_range=(0, 1)))

    with pytest.raises(OutputUnclear, match="cells, nuclei"):
        choose_recipe(two)
    with pytest.raises(OutputUnknown, match="'rays'"):
        choose_recipe(two, output="rays")
    assert choose_recipe(two, output="nuclei").output == "nuclei"


def test_a_model_of_another_task_says_that_it_makes_no_labels() -> None:
    with pytest.raises(MakesNoLabels) as caught:
        choose_recipe(model(output(), tags=("denoising",)))

    assert caught.value.exit_status == 1


def test_every_live_model_gets_a_recipe_or_a_reason(shared: Path) -> None:
    fates: Counter[str] = Counter()
    for manifest in sorted((shared / "zoo" / "models").glob("*/rdf.yaml")):
        if manifest.parent.name.startswith("ex-"):
            continue
        try:
            fates[choose_recipe(read_model(manifest)).name] += 1
        except (RecipeUnclear, OutputUnclear, MakesNoLabels, PackageInvalid) as why:
            fates[why.code] += 1

    assert sum(fates.values()) == 137
    assert fates["stardist"] == 4
    assert fates["package.invalid"] == 2
    assert fates["task.no-labels"] >= 15
