"""What every recipe must do: find ideal objects, and not care how the image is turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from tests.process.ideal_maps import FAMILIES, NAMES, Family, cells, decoded, name_of

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.matching import match_labels
from bmz.process.recipes import RECIPES
from bmz.process.relabel import in_raster_order

POINTING = {"stardist", "flows", "affinities", "hover", "panoptic"}
HEIGHTS = {"stardist", "panoptic", "spots"}
"""Whose scores are values of the map."""
SCALAR = [f for f in FAMILIES if f.recipe not in POINTING]
"""Families whose channels do not point anywhere, so that a map can be turned as it is."""

every_family = pytest.mark.parametrize("family", FAMILIES, ids=NAMES)


def same(one: LabelArray, other: LabelArray, iou: float = 0.9) -> bool:
    return match_labels(one, other, iou).f1 == 1


@every_family
@pytest.mark.parametrize("seed", range(3))
def test_objects_of_ideal_maps_are_found(family: Family, seed: int) -> None:
    truth = cells(seed)
    wanted = family.objects(truth)

    found = decoded(family, family.maps(truth)).labels

    if family.exact:
        np.testing.assert_array_equal(found, in_raster_order(wanted).labels)
    assert same(found, wanted, 0.7)


def turn(image: AnyArray, quarter: int, *, mirror: bool) -> AnyArray:
    turned = np.rot90(image, quarter, (-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if mirror else turned)


@every_family
@pytest.mark.parametrize(("quarter", "mirror"), [(1, False), (2, False), (3, True), (0, True)])
def test_objects_turn_and_mirror_with_the_image(
    family: Family, quarter: int, *, mirror: bool
) -> None:
    truth = cells(7)
    straight = decoded(family, family.maps(truth)).labels

    found = decoded(family, family.maps(turn(truth, quarter, mirror=mirror))).labels

    assert same(found, turn(straight, quarter, mirror=mirror))


@pytest.mark.parametrize("family", SCALAR[:-1], ids=name_of)
@pytest.mark.parametrize(("quarter", "mirror"), [(1, False), (2, True)])
def test_uncertain_maps_turn_too(family: Family, quarter: int, *, mirror: bool) -> None:
    rng = np.random.default_rng(4)
    sharp = family.maps(cells(8))
    noise = 0.2 * rng.standard_normal(sharp.shape).astype(np.float32)
    maps = ndimage.gaussian_filter(sharp + noise, (0, 1, 1))
    straight = decoded(family, maps).labels

    found = decoded(family, turn(maps, quarter, mirror=mirror)).labels

    assert straight.max() > 8
    assert match_labels(found, turn(straight, quarter, mirror=mirror), 0.8).f1 >= 0.95


@pytest.mark.parametrize(
    "family",
    [f for f in FAMILIES if f.recipe not in {"gasp", "multicut", "affinities"}],
    ids=name_of,
)
def test_an_empty_margin_changes_nothing(family: Family) -> None:
    truth = cells(9)
    straight = decoded(family, family.maps(truth)).labels

    found = decoded(family, family.maps(np.pad(truth, 11))).labels

    assert np.array_equal(found[11:-11, 11:-11], straight) or same(found[11:-11, 11:-11], straight)
    assert found.max() == straight.max()


MAPS = npst.arrays(
    np.float32, st.tuples(st.integers(5, 9), st.integers(1, 20), st.integers(1, 20)),
    elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1, -3, 40]),
)  # fmt: skip


@every_family
@settings(max_examples=40)
@given(maps=MAPS)
def test_any_map_gives_labels_in_order_and_scores_within_0_and_1(
    family: Family, maps: FloatArray
) -> None:
    count = len(family.maps(np.ones((1, 1), np.int32)))
    few = maps[:count] if len(maps) >= count else np.resize(maps, (count, *maps.shape[1:]))
    if family.recipe == "labels":
        few = np.rint(abs(few))

    done = decoded(family, few)

    np.testing.assert_array_equal(done.labels, in_raster_order(done.labels).labels)
    assert done.labels.shape == few.shape[1:]
    assert done.labels.dtype == np.int32
    if done.scores is not None:
        assert len(done.scores) == done.labels.max()
        assert family.recipe in HEIGHTS or ((done.scores >= 0) & (done.scores <= 1)).all()


@every_family
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_a_map_of_one_value_makes_no_fuss(family: Family, value: float) -> None:
    count = len(family.maps(np.ones((1, 1), np.int32)))
    if family.recipe == "labels" and np.isnan(value):
        pytest.skip("the recipe refuses what is not a whole number")

    done = decoded(family, np.full((count, 12, 13), value, np.float32))

    # affinities of 0 part every pixel from every other one, and rays of 1 px make small stars
    most = 156 if family.recipe in {"affinities", "stardist"} else 1
    assert done.labels.max() <= most


@every_family
def test_the_finish_is_done_by_every_recipe(family: Family) -> None:
    truth = cells(5)
    whole = decoded(family, family.maps(truth)).labels

    inner = decoded(family, family.maps(truth), remove_border=True).labels

    edge = np.unique(np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]]))
    assert inner.max() == whole.max() - np.count_nonzero(edge)


def truths(shared: Path) -> list[LabelArray]:
    files = sorted((shared / "data/dsb2018/test/masks").glob("*.tif"))[::16]
    return [in_raster_order(tifffile.imread(file).astype(np.int32)).labels for file in files]


@every_family
def test_nuclei_of_real_masks_come_back_from_ideal_maps(family: Family, shared: Path) -> None:
    matched = expected = 0
    for truth in truths(shared):
        objects = family.objects(truth)
        labels = decoded(family, family.maps(truth)).labels
        score = match_labels(labels, in_raster_order(objects).labels, 0.9)
        matched, expected = matched + score.tp, expected + score.tp + score.fn

    assert matched >= (1 - family.lost) * expected > 100


def test_every_recipe_that_reads_maps_of_an_image_is_looked_at_here() -> None:
    of_maps: set[Any] = {name for name, recipe in RECIPES.items() if not recipe.per_object}

    assert {family.recipe for family in FAMILIES} == of_maps
