from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bmz.base.axes import Step
from bmz.plan.recipe_choice import (
    MakesNoLabels,
    OutputUnclear,
    OutputUnknown,
    RecipeMissing,
    RecipeUnclear,
    choose_recipe,
)
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, TensorSpec
from bmz.spec.package_files import PackageInvalid


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
    ("grid", "told"),
    [([2, 4], "2,4"), ([2, 2, 2], ""), ("22", ""), ([2, 0], ""), ([2, "x"], ""), (None, "")],
)
def test_the_grid_of_the_network_is_that_of_the_config(grid: object, told: str) -> None:
    thresholds = {"prob": 0.4, "nms": 0.5}
    config = {"stardist": {"thresholds": thresholds, "config": {"grid": grid}}}

    choice = choose_recipe(model(output(channels=33), config=config))

    assert choice.parameters.get("network_grid", "") == told
    assert (f"its border is in cells of the network's grid, of {told} px" in choice.why) == (
        told != ""
    )


def test_a_config_of_stardist_that_is_no_mapping_tells_no_grid() -> None:
    config = {"stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}, "config": ["grid", 2]}}

    assert "network_grid" not in choose_recipe(model(output(channels=33), config=config)).parameters


@pytest.mark.parametrize(
    ("tensor", "recipe", "parameters"),
    [
        (output("background", "membrane", "nucleus"), "boundary", (2, 1)),
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
    ("names", "recipe", "parameters"),
    [
        (("background", "contour", "nucleus"), "contour", {"channels": "B+C+F"}),
        (("foreground", "contour", "style"), "contour", {"channels": "F+C+-"}),
        (("flow_y", "flow_x", "cell_probability"), "flows", {}),
        (("flow y", "flow x", "distance to the edge"), "flows", {"style": "omnipose"}),
        (("inner_distance", "interior"), "mesmer", {}),
    ],
)
def test_names_of_channels_tell_the_family(
    names: tuple[str, ...], recipe: str, parameters: dict[str, str]
) -> None:
    choice = choose_recipe(model(output(*names)))

    assert choice.name == recipe
    assert parameters.items() <= choice.parameters.items()


@pytest.mark.parametrize(
    ("description", "tags", "channels", "letters"),
    [
        ("nuclei", (), 2, "F+C"),
        ("nuclei. Instance segmentation representation: F + C + Db", (), 3, "F+C+Db"),
        ("neurons. Instance segmentation representation: F + P", (), 2, "F+P"),
        ("cysts", ("cyst", "3D", "fluorescence"), 3, "F+C+M"),
    ],
)
def test_a_model_of_biapy_tells_its_maps(
    description: str, tags: tuple[str, ...], channels: int, letters: str
) -> None:
    known = model(
        output(channels=channels),
        tags=("biapy", "instance-segmentation", *tags),
        description=description,
    )

    choice = choose_recipe(known)

    assert (choice.name, choice.parameters) == ("contour", {"channels": letters})


def test_an_unknown_foreground_of_biapy_is_taken_for_whole_cells_and_says_so() -> None:
    tags = ("biapy", "instance-segmentation")
    said = "nuclei. representation: F + C"

    unknown = choose_recipe(model(output(channels=2), tags=tags, description="nuclei"))
    known = choose_recipe(model(output(channels=2), tags=tags, description=said))

    assert "whole cells" in unknown.why
    assert "--set ring=1" in unknown.why
    assert "ring" not in known.why


def test_a_note_of_the_facts_is_told_with_the_recipe() -> None:
    leopard = choose_recipe(model(output("F", "C", "Dc"), alias="plucky-leopard"))

    assert leopard.parameters["channels"] == "F+C+Db"
    assert "its description says Db" in leopard.why
    assert "--set channels=F+C+Dc" in leopard.why


@pytest.mark.parametrize(("description", "channels"), [("F", 3), ("representation: E + F", 2)])
def test_maps_of_biapy_that_do_not_fit_are_not_guessed(description: str, channels: int) -> None:
    tags = ("biapy", "instance-segmentation")

    with pytest.raises(RecipeUnclear):
        choose_recipe(model(output(channels=channels), tags=tags, description=description))


def test_config_of_our_own_names_the_recipe_and_its_parameters() -> None:
    config = {"bmz": {"recipe": {"name": "flows", "parameters": {"diameter": 20.0}}}}

    choice = choose_recipe(model(output("foreground", "contour", "x"), config=config))

    assert (choice.name, choice.parameters) == ("flows", {"diameter": 20.0})
    assert "config.bmz.recipe" in choice.why


def test_config_of_torch_em_holds_the_offsets_of_affinities() -> None:
    config = {"mws": {"offsets": [[-1, 0], [0, -1], [-9, 0]]}}

    choice = choose_recipe(model(output(channels=3), config=config))

    assert choice.name == "affinities"
    assert choice.parameters == {"offsets": "-1,0;0,-1;-9,0", "one_is_apart": True}


def stacked(channels: int) -> TensorSpec:
    flat = output(channels=channels)
    z = AxisSpec("z", "space", Fixed(16))
    return replace(flat, axes=(*flat.axes[:2], z, *flat.axes[2:]))


def test_rays_of_a_stack_are_those_of_the_config() -> None:
    rays = {"name": "Rays_GoldenSpiral", "kwargs": {"n": 96, "anisotropy": [2, 1, 1.5]}}
    config: dict[str, Any] = {
        "stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}, "config": {"rays_json": rays}}
    }

    choice = choose_recipe(model(stacked(97), config=config))
    rays["name"] = "Rays_Octo"

    assert choice.parameters["anisotropy"] == "2,1,1.5"
    with pytest.raises(RecipeMissing, match="Rays_Octo"):
        choose_recipe(model(stacked(97), config=config))


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
    assert "watershed" not in caught.value.hint.split(", ")


def test_the_word_of_the_user_wins_and_keeps_fitting_evidence() -> None:
    config = {"stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}}}
    stars = model(output(channels=33), config=config)

    assert choose_recipe(stars, recipe="components").parameters == {}
    assert choose_recipe(stars, recipe="stardist").parameters["prob_threshold"] == 0.4


def test_a_recipe_for_the_same_maps_takes_the_evidence_of_the_other() -> None:
    ours = {"bmz": {"recipe": {"name": "gasp", "parameters": {"channel": 1, "beta": 0.6}}}}

    choice = choose_recipe(model(output(channels=2), config=ours), recipe="multicut")

    assert (choice.name, choice.parameters) == ("multicut", {"channel": 1, "beta": 0.6})


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


def test_curated_facts_tell_what_two_nameless_maps_are() -> None:
    shark = model(output(channels=2), alias="affable-shark")

    choice = choose_recipe(shark)

    assert choice.name == "boundary"
    assert choice.parameters == {"foreground_channel": 0, "boundary_channel": 1}
    assert "torch-em" in choice.why


def test_a_folder_of_the_name_of_a_model_has_no_facts() -> None:
    stranger = replace(model(output(channels=2)), id="affable-shark", folder=Path("affable-shark"))

    with pytest.raises(RecipeUnclear):
        choose_recipe(stranger)


def test_what_is_declared_wins_over_facts_and_facts_over_names() -> None:
    config = {"stardist": {"thresholds": {"prob": 0.4, "nms": 0.5}}}
    named = output("boundary", "foreground")

    assert choose_recipe(model(named)).parameters["boundary_channel"] == 0
    assert choose_recipe(model(named, alias="affable-shark")).parameters["boundary_channel"] == 1
    declared = choose_recipe(model(named, alias="affable-shark", config=config))
    assert declared.name == "stardist"


def test_facts_of_an_output_that_has_changed_since_are_left_aside() -> None:
    shark = model(output("boundary"), alias="affable-shark")
    panda = model(output(channels=1, value_range=(0, 1)), alias="exuberant-parrot")

    assert choose_recipe(shark).parameters == {"foreground_channel": -1, "boundary_channel": 0}
    assert choose_recipe(panda).name == "components"


def test_facts_of_an_output_of_another_name_say_nothing() -> None:
    renamed = model(output(channels=3, id_="other"), alias="philosophical-panda")

    with pytest.raises(RecipeUnclear):
        choose_recipe(renamed)


def test_facts_say_which_of_several_outputs_becomes_labels() -> None:
    flow, style = output(channels=3, id_="flow"), output(channels=256, id_="style")
    panda = model(style, flow, alias="philosophical-panda")

    assert choose_recipe(panda).output == "flow"
    assert choose_recipe(panda).name == "flows"
    assert choose_recipe(panda, recipe="components").output == "flow"
    assert choose_recipe(panda, output="style", recipe="components").output == "style"


@pytest.mark.parametrize(
    ("alias", "channels", "reason"),
    [
        ("amiable-crocodile", 1, "its input is not an image"),
        ("conscientious-seashell", 3, "logits and no probabilities: hpacellseg applies softmax"),
        ("loyal-parrot", 3, "logits"),
    ],
)
def test_facts_say_why_there_is_no_recipe(alias: str, channels: int, reason: str) -> None:
    known = model(output(channels=channels), output(id_="scores"), alias=alias)

    with pytest.raises(RecipeMissing, match=reason) as caught:
        choose_recipe(known)

    assert caught.value.exit_status == 3
    assert choose_recipe(known, recipe="boundary", output="out").name == "boundary"


def test_a_model_that_the_facts_know_of_another_task_makes_no_labels() -> None:
    splitter = model(output("ch1", "ch2"), output(id_="more"), alias="affectionate-cow", tags=())
    labels = (Step("cellpose_flow_dynamics"),)

    with pytest.raises(MakesNoLabels, match="splits") as caught:
        choose_recipe(splitter)

    assert caught.value.exit_status == 1
    assert caught.value.curated
    declared = replace(splitter, outputs=(output("ch1", steps=labels),))
    assert choose_recipe(declared).name == "labels"


ZOO = {
    "biapy-affinities": {"affinities": 3},
    "biapy-instance": {"contour": 29, "components": 1},
    "biapy-semantic": {"boundary": 1, "components": 10},
    "cellpose-flows": {"flows": 1},
    "cellpose-labels": {"labels": 4},
    "deepimagej-mask": {"components": 4},
    "deepimagej-prob": {"boundary": 2, "components": 2},
    "detectron2": {"package.invalid": 1, "masks": 1},
    "empanada-labels": {"labels": 1},
    "hpa-dpnunet": {"recipe.missing": 2},
    "membrane": {"boundary": 1, "recipe.missing": 1},
    "micro-sam": {"prompts": 6},
    "plantseg": {"boundary": 2, "components": 1, "gasp": 6},
    "semantic": {"components": 1},
    "semantic-multiclass": {"argmax": 7},
    "shallow2deep": {"recipe.missing": 4},
    "stardist": {"stardist": 4},
    "torch-em-affinities": {"affinities": 1},
    "torch-em-boundary": {"boundary": 10},
    "other tasks": {"task.no-labels": 30, "package.invalid": 1},
}
"""What becomes of the live models, family by family."""


def test_every_live_model_gets_a_recipe_or_a_reason(
    shared: Path, live_descriptions: Mapping[str, ModelSpec | PackageInvalid]
) -> None:
    known = json.loads((shared / "zoo" / "seg_models.json").read_text(encoding="utf-8"))
    families = {entry["alias"]: entry["family"] for entry in known}
    fates: dict[str, Counter[str]] = {family: Counter() for family in ZOO}
    for alias, model in live_descriptions.items():
        try:
            fate = model.code if isinstance(model, PackageInvalid) else choose_recipe(model).name
        except (MakesNoLabels, OutputUnclear, RecipeMissing, RecipeUnclear) as why:
            fate = why.code
        fates[families.get(alias, "other tasks")][fate] += 1

    assert fates == ZOO
