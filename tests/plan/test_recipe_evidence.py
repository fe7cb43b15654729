"""How much evidence a recipe needs, one piece of it at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.plan.test_recipe_choice import model, output, stacked

from bmz.base.axes import Step
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.recipe_choice import NO_LABEL_TASKS, MakesNoLabels, RecipeUnclear, choose_recipe
from bmz.spec.model import AxisSpec, Fixed, Stepped, TensorSpec

THRESHOLDS = {"thresholds": {"prob": 0.4, "nms": 0.5}}


def refused(tensor: TensorSpec, **more: Any) -> str:
    with pytest.raises(RecipeUnclear) as caught:
        choose_recipe(model(tensor, **more))
    return caught.value.message


def test_what_is_not_known_is_told_with_the_shape_of_the_output() -> None:
    assert refused(output(channels=2)) == (
        "cannot determine how to turn the output of 'm' into a label mask: output 'out' has axes "
        "bcyx and 2 channels, and no op, config or channel name gives more information"
    )


@pytest.mark.parametrize(
    "told",
    [
        {"recipe": {"name": "flows", "output": "another"}},
        {"recipe": None},
        None,
        "flows",
    ],
)
def test_config_of_our_own_about_something_else_says_nothing(told: Any) -> None:
    assert "no op, config or channel name" in refused(output(channels=3), config={"bmz": told})


@pytest.mark.parametrize(
    "told", ["flows", ["flows"], {}, {"name": 3}, {"name": "flows", "parameters": [1]}]
)
def test_config_of_our_own_that_names_no_recipe_is_refused(told: Any) -> None:
    message = refused(output("label"), config={"bmz": {"recipe": told}})

    assert message.endswith(f"config.bmz.recipe is {told!r}, without a name and parameters")


def test_config_of_our_own_may_name_its_output_and_leave_out_parameters() -> None:
    config = {"bmz": {"recipe": {"name": "flows", "output": "b"}}}
    two = model(output(channels=3, id_="a"), output(channels=3, id_="b"), config=config)

    choice = choose_recipe(two, output="b")

    assert choice == RecipeChoice("flows", "config.bmz.recipe names it", "b", {})


@pytest.mark.parametrize(
    "stardist",
    [
        "2D",
        {"thresholds": [0.4, 0.5]},
        {"thresholds": {"prob": 0.4}},
        {"thresholds": {"nms": 0.4}},
        {},
    ],
)
def test_half_a_stardist_config_says_nothing(stardist: Any) -> None:
    assert "33 channels" in refused(output(channels=33), config={"stardist": stardist})


def test_further_thresholds_and_numbers_as_text_are_read() -> None:
    config = {"stardist": {"thresholds": {"prob": "0.4", "nms": 1, "other": 3}}}

    choice = choose_recipe(model(output(channels=33), config=config))

    assert choice.parameters == {"prob_threshold": 0.4, "nms_threshold": 1.0}


@pytest.mark.parametrize(
    "network", [None, {}, {"rays_json": None}, {"rays_json": {"kwargs": None}},
                {"rays_json": {"kwargs": {"anisotropy": None}}}],
)  # fmt: skip
def test_rays_of_a_stack_that_say_nothing_are_those_of_a_sphere(network: Any) -> None:
    config = {"stardist": {**THRESHOLDS, "config": network}}

    choice = choose_recipe(model(stacked(97), config=config))

    assert choice.parameters["anisotropy"] == "1,1,1"


@pytest.mark.parametrize(
    ("count", "names", "classes"),
    [
        (2, (), "background,1,2"),
        (2, ("none", "dead", "alive"), "none,dead,alive"),
        (None, (), None),
        (0, (), None),
    ],
)
def test_a_stardist_network_may_tell_classes(
    count: int | None, names: tuple[str, ...], classes: str | None
) -> None:
    tensor = output(*(f"map {k}" for k in range(33)), *names) if names else output(channels=36)
    config = {"stardist": {**THRESHOLDS, "config": {"n_classes": count}}}

    choice = choose_recipe(model(tensor, config=config))

    assert choice.parameters.get("classes") == classes


def test_rays_in_a_plane_have_no_anisotropy() -> None:
    choice = choose_recipe(model(output(channels=33), config={"stardist": THRESHOLDS}))

    assert "anisotropy" not in choice.parameters


@pytest.mark.parametrize(
    "mutex",
    [
        {"offsets": [[-1, 0], [0, -1]]},
        {"offsets": [[-1, 0]] * 4},
        {"offsets": 3},
        {},
        [[-1, 0], [0, -1], [-9, 0]],
    ],
)
def test_offsets_that_are_not_one_a_channel_say_nothing(mutex: Any) -> None:
    assert "3 channels" in refused(output(channels=3), config={"mws": mutex})


@pytest.mark.parametrize("name", ["Labels", " instances ", "label", "INSTANCE_LABELS"])
def test_a_single_channel_named_as_labels_holds_them(name: str) -> None:
    assert choose_recipe(model(output(name))).why == "the output channel is named as labels"


def test_labels_among_other_channels_are_not_taken_for_the_output() -> None:
    refused(output("label", "style"))


@pytest.mark.parametrize(
    ("dtype", "labels"),
    [("uint16", True), ("int32", True), ("int64", True), ("uint8", False), ("float32", False),
     ("uint160", False)],
)  # fmt: skip
def test_wide_integers_without_a_channel_axis_are_labels(dtype: str, *, labels: bool) -> None:
    full = output(dtype=dtype)
    bare = replace(full, axes=(full.axes[0], *full.axes[2:]))

    if labels:
        assert choose_recipe(model(bare)).why == (
            f"the output is {dtype} without a channel axis, that is labels"
        )
    else:
        refused(bare)
    refused(full)  # with a channel axis it may be anything


def test_contours_beside_foreground_are_thresholded_at_one_half() -> None:
    choice = choose_recipe(model(output("Background", "cell-contour", "inner nucleus")))

    assert choice.name == "contour"
    assert choice.parameters == {
        "channels": "B+C+F",
        "foreground_threshold": 0.5,
        "background_threshold": 0.5,
        "contour_threshold": 0.5,
    }
    assert choice.why == "the output channels are named background, cell-contour, inner nucleus"


def test_a_contour_without_foreground_is_a_boundary() -> None:
    choice = choose_recipe(model(output("contour")))

    assert choice.name == "boundary"
    assert choice.parameters == {"foreground_channel": -1, "boundary_channel": 0}


def test_a_channel_that_is_named_as_both_is_the_boundary_alone() -> None:
    choice = choose_recipe(model(output("cell boundary", "cell")))

    assert choice.parameters == {"foreground_channel": 1, "boundary_channel": 0}


@pytest.mark.parametrize("name", ["edges", "boundaryless", "membranes", "cellular"])
def test_a_name_that_only_contains_a_word_is_another_name(name: str) -> None:
    refused(output(name, "style"))


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("flow_y", "flow_x", "probability"), "flows"),
        (("Flow-Y", "flow x"), "flows"),
        (("Inner-Distance", "pixelwise"), "mesmer"),
        (("inner distance map",), "mesmer"),
    ],
)
def test_families_are_known_by_the_names_of_their_first_channels(
    names: tuple[str, ...], name: str
) -> None:
    choice = choose_recipe(model(output(*names)))

    assert choice.name == name
    assert choice.why == f"the output channels are named {', '.join(n.lower() for n in names)}"


@pytest.mark.parametrize(
    "names",
    [
        ("probability", "flow_y", "flow_x"),
        ("flow_y", "probability", "flow_x"),
        ("flow_y", "style"),
        ("flow_z", "flow_y", "flow_x"),
        ("style", "inner_distance"),
    ],
)
def test_families_are_not_known_by_channels_elsewhere(names: tuple[str, ...]) -> None:
    refused(output(*names))


def test_flows_of_a_stack_are_three() -> None:
    volume = stacked(4)
    named = replace(volume.axes[1], names=("flow_z", "flow_y", "flow_x", "probability"))
    tensor = replace(volume, axes=(volume.axes[0], named, *volume.axes[2:]))

    assert choose_recipe(model(tensor)).name == "flows"


@pytest.mark.parametrize(
    ("tags", "description"),
    [
        (("biapy",), "representation: F + C"),
        (("instance-segmentation",), "representation: F + C"),
        (("biapy", "instance-segmentation"), "representation: F + C + M"),
        (("biapy", "instance-segmentation"), "representation: F + Q"),
    ],
)
def test_a_model_that_is_not_of_biapy_or_speaks_another_language_is_not_guessed(
    tags: tuple[str, ...], description: str
) -> None:
    refused(output(channels=2), tags=tags, description=description)


def test_the_maps_of_biapy_are_told() -> None:
    told = model(
        output(channels=2),
        tags=("BiaPy", "Instance-Segmentation"),
        description="Cells. Instance segmentation representation:  B+ Dc.",
    )

    assert choose_recipe(told) == RecipeChoice(
        "contour", "a BiaPy model, whose maps are B+Dc", "out", {"channels": "B+Dc"}
    )


@pytest.mark.parametrize(
    ("tensor", "tags", "name"),
    [
        (output(steps=(Step("binarize"),)), (), "components"),
        (output(steps=(Step("sigmoid"),)), (), None),
        (output(steps=(Step("sigmoid"),)), ("Nucleus-Segmentation",), "components"),
        (output(value_range=(0.0, 1.0)), ("segmentation",), "components"),
        (output(value_range=(0.0, 255.0)), ("segmentation",), None),
        (output(value_range=(None, 1.0)), ("segmentation",), None),
        (output(channels=2, value_range=(0.0, 1.0)), ("segmentation",), None),
        (output(channels=2, steps=(Step("binarize"),)), ("segmentation",), None),
    ],
)
def test_one_map_is_foreground_where_step_or_range_and_tag_say_so(
    tensor: TensorSpec, tags: tuple[str, ...], name: str | None
) -> None:
    if name is None:
        refused(tensor, tags=tags)
    else:
        assert choose_recipe(model(tensor, tags=tags)).name == name


@pytest.mark.parametrize(
    ("channels", "tags", "steps", "classes"),
    [
        (3, ("semantic-segmentation",), (), True),
        (3, ("2d", "Semantic-Segmentation"), (), True),
        (3, ("segmentation",), (Step("softmax"),), True),
        (2, ("segmentation",), (Step("softmax"),), True),
        (3, ("segmentation",), (), False),
        (3, ("photo",), (Step("softmax"),), False),
        (1, ("semantic-segmentation",), (), False),
    ],
)
def test_several_maps_are_classes_where_softmax_or_the_task_says_so(
    channels: int, tags: tuple[str, ...], steps: tuple[Step, ...], *, classes: bool
) -> None:
    tensor = output(channels=channels, steps=steps)

    if classes:
        choice = choose_recipe(model(tensor, tags=tags))
        assert choice.name == "argmax"
        assert choice.why == f"{channels} class maps of a model for semantic segmentation"
    else:
        refused(tensor, tags=tags)


def test_an_output_of_any_number_of_channels_is_no_class_map() -> None:
    full = output(channels=3)
    free = AxisSpec("c", "channel", Stepped(1, 1))
    tensor = replace(full, axes=(full.axes[0], free, *full.axes[2:]))

    message = refused(tensor, tags=("semantic-segmentation",))

    assert "has axes bcyx and any number of channels, and no op" in message
    assert "has axes bcyx and 1 channel, and no op" in refused(output())


@pytest.mark.parametrize("task", NO_LABEL_TASKS)
def test_each_task_without_labels_is_told_by_its_tag(task: str) -> None:
    with pytest.raises(MakesNoLabels) as caught:
        choose_recipe(model(output(channels=2), tags=("2d", task.upper())))

    assert caught.value.message == f"'m' makes no label mask: its task is {task.upper()}"
    assert caught.value.hint == "keep its output with --recipe none --save raw"
    assert not caught.value.curated


def test_a_recipe_asked_for_on_an_output_keeps_nothing_of_another_recipe() -> None:
    tensor = output("background", "contour", "nucleus")

    choice = choose_recipe(model(tensor), recipe="boundary")

    assert choice == RecipeChoice("boundary", "chosen with --recipe", "out", {})


def test_the_first_label_step_of_an_output_decides() -> None:
    steps = (Step("sigmoid"), Step("cellpose_flow_dynamics"), Step("stardist_postprocessing"))

    choice = choose_recipe(model(output(channels=3, steps=steps)))

    assert choice.why == "the description declares cellpose_flow_dynamics, which returns labels"


def test_names_are_those_of_the_channel_axis() -> None:
    axes = (AxisSpec("y", "space", Fixed(8), names=("label",)), AxisSpec("x", "space", Fixed(8)))

    refused(TensorSpec("out", axes, "float32"))


@pytest.mark.parametrize(
    ("names", "recipe", "parameters"),
    [
        (("nuclei", "horizontal", "vertical"), "hover",
         {"foreground_channel": 0, "horizontal_channel": 1, "vertical_channel": 2}),
        (("vertical map", "horizontal map", "nucleus"), "hover",
         {"foreground_channel": 2, "horizontal_channel": 1, "vertical_channel": 0}),
        (("foreground", "center distances", "boundary distances"), "distances",
         {"foreground_channel": 0, "centre_channel": 1, "boundary_channel": 2}),
        (("foreground", "centre", "offset_y", "offset_x"), "panoptic",
         {"foreground_channel": 0, "centre_channel": 1, "offset_channel": 2}),
        (("spots",), "spots", {}),
        (("nuclei", "horizontal", "vertical", "Background", "Dead cell", "T, B"), "hover",
         {"foreground_channel": 0, "horizontal_channel": 1, "vertical_channel": 2,
          "class_channel": 3, "classes": "Background,Dead cell,T  B"}),
        (("nuclei", "horizontal", "vertical", "type"), "hover",
         {"foreground_channel": 0, "horizontal_channel": 1, "vertical_channel": 2,
          "class_channel": 3}),
        (("centre", "offset_y", "offset_x", "background", "mito", "cell"), "panoptic",
         {"foreground_channel": -1, "centre_channel": 0, "offset_channel": 1,
          "class_channel": 3, "classes": "background,mito,cell"}),
    ],
)  # fmt: skip
def test_names_of_places_centres_and_spots_tell_the_recipe(
    names: tuple[str, ...], recipe: str, parameters: dict[str, int]
) -> None:
    choice = choose_recipe(model(output(*names)))

    assert (choice.name, choice.parameters) == (recipe, parameters)


@pytest.mark.parametrize(
    "names",
    [
        ("horizontal", "vertical"),
        ("nuclei", "horizontal"),
        ("centre", "offset_y", "offset_x"),
        ("foreground", "offset_y", "offset_x"),
        ("foreground", "centre", "offset"),
        ("spots", "noise"),
        ("centre", "offset_y", "offset_x", "type"),
    ],
)
def test_places_without_foreground_and_offsets_of_one_axis_tell_nothing(
    names: tuple[str, ...],
) -> None:
    assert "and no op, config or channel name gives more information" in refused(output(*names))
