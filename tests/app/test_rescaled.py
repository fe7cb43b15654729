"""Where an image was resized, labels are made of maps that were brought to the image."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.app.small_models import mapped, model
from tests.process import ideal_maps
from tests.process.ideal_maps import FAMILIES, Family

from bmz.base.arrays import FloatArray, LabelArray
from bmz.base.axes import Step
from bmz.engine.known_tensors import KnownTensors
from bmz.engine.labelling import Labelling, decide_labelling
from bmz.engine.pipeline import label_resized_map
from bmz.process.adapt import resize_labels
from bmz.process.matching import match_labels
from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES


def discs(side: int, factor: float = 1.0) -> LabelArray:
    """Draw the same discs with more or fewer pixels."""
    size = round(side * factor)
    y, x = (np.indices((size, size)) + 0.5) / factor
    labels = np.zeros((size, size), np.int32)
    for number, (cy, cx, radius) in enumerate([(20, 22, 11), (60, 20, 9), (45, 62, 14)], start=1):
        labels[np.hypot(y - cy, x - cx) < radius] = number
    return labels


def resized_labels(family: Family, factor: float) -> tuple[LabelArray, LabelArray]:
    """Make labels of an ideal map of discs on the grid of an image of so many times the pixels."""
    truth = discs(84)
    recipe = RECIPES[family.recipe]
    given = recipe.parameters_from(dict(family.parameters), {})
    choice = decide_labelling(model(), recipe=family.recipe, settings={}).choice
    labelling = Labelling(choice, recipe, given, (), ()).at_factor(factor)
    wanted = resize_labels(family.objects(truth), discs(84, factor).shape)
    done = label_resized_map(
        (family.maps(truth)[None], "bcyx"),
        truth.shape,
        wanted.shape,
        labelling,
        KnownTensors({}, {}),
    )
    return done.labels, wanted


def of_wide_discs(family: Family) -> Family:
    """Let spots be wide enough that their outlines can be compared."""
    if family.recipe != "spots":
        return family
    objects = partial(ideal_maps.discs, radius=8)
    return replace(family, parameters={"radius": 8.0}, objects=objects)


OF_MAPS = [of_wide_discs(f) for f in FAMILIES if RECIPES[f.recipe].rescale == "maps"]


@pytest.mark.parametrize("factor", [0.5, 2.0, 2.6])
@pytest.mark.parametrize("family", OF_MAPS, ids=lambda f: "-".join((f.recipe, *f.parameters)))
def test_objects_of_a_resized_image_are_those_of_the_image(family: Family, factor: float) -> None:
    found, wanted = resized_labels(family, factor)

    assert found.shape == wanted.shape
    assert match_labels(found, wanted, 0.7).tp == 3


def test_a_parameter_that_is_asked_for_counts_pixels_of_the_image_and_others_grow() -> None:
    usual = decide_labelling(model(), recipe="gasp", settings={}).at_factor(2)
    asked = decide_labelling(model(), recipe="gasp", settings={"sigma_seeds": "1"}).at_factor(2)

    assert usual.parameters["sigma_seeds"] == 2
    assert usual.parameters["superpixel_size"] == 400
    assert usual.parameters["min_size"] == 100
    assert asked.parameters["sigma_seeds"] == 1
    assert asked.parameters["sigma_weights"] == 4


def labels_at(factor: float, maps: FloatArray, recipe: str, **given: Value) -> LabelArray:
    """Label maps (c, y, x) on a grid of so many times the pixels."""
    chosen = RECIPES[recipe]
    choice = decide_labelling(model(), recipe=recipe, settings={}).choice
    values = chosen.parameters_from(given, {})
    labelling = Labelling(choice, chosen, values, (), (), frozenset(given)).at_factor(factor)
    small = maps.shape[1:]
    image = tuple(round(n * factor) for n in small)
    known = KnownTensors({}, {})
    return label_resized_map((maps[None], "bcyx"), small, image, labelling, known).labels


def waisted() -> FloatArray:
    """Draw the boundary of a cell with a waist, whose two ends are 9 px apart; it is one object."""
    y, x = np.indices((32, 40))
    cell = (np.hypot(y - 16, x - 15) < 7) | (np.hypot(y - 16, x - 24) < 6)
    return (1 - cell).astype(np.float32)[None]


@pytest.mark.parametrize("factor", [0.6, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("given", [{}, {"seed_distance": -1.0}])
def test_the_usual_distance_of_seeds_is_one_of_the_grid_of_the_network(
    factor: float, given: dict[str, Value]
) -> None:
    labels = labels_at(factor, waisted(), "boundary", **given)

    middle = labels.shape[0] // 2
    assert len(set(labels[middle, round(12 * factor) : round(27 * factor)].tolist())) == 1


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_the_usual_size_of_a_seed_is_one_of_the_grid_of_the_network(factor: float) -> None:
    maps = np.zeros((2, 32, 48), np.float32)
    maps[0, 4:28, 4:20] = 1
    maps[0, 10:12, 30:34] = 1  # 8 px, which is noise
    maps[0, 20:26, 30:38] = 1

    labels = labels_at(factor, maps, "contour")

    assert labels.max() == 2


def test_the_usual_gaussian_of_points_grows_with_the_grid() -> None:
    contour = decide_labelling(model(), recipe="contour", settings={})

    assert contour.at_factor(2.5).parameters["smooth_surface"] == -2.5
    assert contour.at_factor(2.5).parameters["seed_size"] == -6.25
    assert contour.at_factor(2.5).parameters["foreground_threshold"] == -1


def test_affinities_are_labelled_on_the_grid_of_the_network_with_sizes_of_it() -> None:
    usual = decide_labelling(model(), recipe="affinities", settings={})

    assert usual.at_factor(2.5) is usual


def test_flows_of_a_declared_step_are_followed_for_longer_where_cells_are_larger() -> None:
    step = Step("cellpose_flow_dynamics", {"cellprob_threshold": 0.0, "flow_threshold": 0.4})
    labelling = decide_labelling(model(outputs=[mapped("bcyx", step)]), recipe=None, settings={})

    (grown,) = labelling.at_factor(2.5).label_steps

    assert grown.kwargs == {**step.kwargs, "diameter": 75}
    assert labelling.at_factor(2.5).as_record()["parameters"] == labelling.as_record()["parameters"]


def test_labels_that_a_model_gives_are_resized_as_labels() -> None:
    for name in ("labels", "masks", "affinities"):
        recipe = RECIPES[name]
        assert recipe.rescale == "labels"
        assert recipe.at_factor({"a": 1}, (), 2) == {"a": 1}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_is_resized_and_what_lies_beyond_the_border(name: str) -> None:
    assert RECIPES[name].rescale_why
    assert RECIPES[name].tiles.source
