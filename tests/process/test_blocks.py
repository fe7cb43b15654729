"""Labels made block by block are those of the whole map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.metrics import adapted_rand_error
from tests.process.ideal_maps import FAMILIES, NAMES, cells

from bmz.base.arrays import FloatArray, LabelArray
from bmz.base.progress import Event, Note, Progress
from bmz.process.blocks import BlockWork, Found, label_blocks, streamed_otsu, threshold_of
from bmz.process.heat import flows_of_labels
from bmz.process.recipe import Finish, Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import in_raster_order

SIDES = (50, 77, 120)


def in_blocks(
    recipe: str,
    maps: FloatArray,
    side: int,
    *,
    overlap: int = 32,
    grid: int = 1,
    given: Mapping[str, Value] | None = None,
    told: list[Event] | None = None,
) -> tuple[LabelArray, Found]:
    """Label block by block into an array, numbered in raster order."""
    one = RECIPES[recipe]
    steps = (grid,) * (maps.ndim - 1)
    work = BlockWork(maps, steps, one, one.parameters_from(given or {}, {}), side, overlap)
    labels = np.zeros(work.shape, np.uint32)
    found = label_blocks(work, labels, (told if told is not None else []).append)
    return found.numbers()[labels], found


def whole(
    recipe: str, maps: FloatArray, grid: int = 1, given: Mapping[str, Value] | None = None
) -> LabelArray:
    one = RECIPES[recipe]
    parameters = one.parameters_from(given or {}, {})
    labelled = one.apply(maps, (grid,) * (maps.ndim - 1), parameters)
    return in_raster_order(labelled.labels).labels


@cache
def ideal_maps(name: str, noise: float = 0) -> FloatArray:
    """Give the maps of many cells for a family of `NAMES`, with noise of a standard deviation."""
    family = FAMILIES[NAMES.index(name)]
    seed = 22 if noise else 21
    maps = family.maps(cells(seed, 200, 8))
    waves = noise * np.random.default_rng(seed).standard_normal(maps.shape) if noise else 0
    return (maps + waves).astype(np.float32)


@cache
def whole_labels(name: str, noise: float = 0) -> LabelArray:
    """Give the labels of such maps in one piece, with which those of every side are compared."""
    family = FAMILIES[NAMES.index(name)]
    return whole(family.recipe, ideal_maps(name, noise), given=family.parameters)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("labels")])
@pytest.mark.parametrize("side", SIDES)
def test_blocks_of_any_size_give_the_objects_of_the_whole(name: str, side: int) -> None:
    family = FAMILIES[NAMES.index(name)]

    labels, found = in_blocks(family.recipe, ideal_maps(name), side, given=family.parameters)

    wanted = whole_labels(name)
    np.testing.assert_array_equal(labels, wanted)
    assert found.count == wanted.max() > 10


UNCERTAIN = (
    "mesmer", "contour", "boundary", "distance_watershed", "components", "flows", "hover",
    "panoptic", "spots", "distances",
)  # fmt: skip


@pytest.mark.parametrize("recipe", UNCERTAIN)
@pytest.mark.parametrize("side", SIDES)
def test_uncertain_maps_are_cut_nowhere(recipe: str, side: int) -> None:
    name, family = next((n, f) for n, f in zip(NAMES, FAMILIES, strict=True) if f.recipe == recipe)

    labels, _ = in_blocks(recipe, ideal_maps(name, 0.05), side, given=family.parameters)

    np.testing.assert_array_equal(labels, whole_labels(name, 0.05))


@pytest.mark.parametrize("grid", [1, 2])
def test_labels_of_a_coarse_map_lie_on_the_grid_of_the_input(grid: int) -> None:
    family = next(f for f in FAMILIES if f.recipe == "boundary")
    maps = family.maps(cells(23, 120, 5))

    labels, _ = in_blocks("boundary", maps, 50, grid=grid)

    np.testing.assert_array_equal(labels, whole("boundary", maps, grid=grid))


def test_an_object_larger_than_the_overlap_widens_it_and_this_is_told() -> None:
    maps = np.zeros((1, 60, 200), np.float32)
    maps[0, 20:40, 10:190] = 1
    told: list[Event] = []

    labels, found = in_blocks("components", maps, 40, overlap=8, told=told)

    np.testing.assert_array_equal(labels, maps[0] > 0)
    assert found.widest_overlap == 256
    assert [str(event) for event in told if isinstance(event, Note)]


def test_a_block_sees_as_far_as_the_longest_ray() -> None:
    maps = np.full((33, 60, 90), 20.0, np.float32)
    maps[0] = 0
    maps[0, 30, 45] = 0.9

    labels, found = in_blocks("stardist", maps, 30, overlap=2)

    np.testing.assert_array_equal(labels, whole("stardist", maps))
    assert found.count == 1


@pytest.mark.parametrize("network", ["", "2,2", "6,6"])
def test_only_the_border_of_the_whole_map_has_no_centres_of_stars(network: str) -> None:
    maps = np.full((33, 120, 150), 5.0, np.float32)
    maps[0] = 0
    maps[0, 3::13, 3::14] = np.linspace(0.6, 0.9, 99).reshape(9, 11)
    given: dict[str, Value] = {"network_grid": network}

    labels, found = in_blocks("stardist", maps, 30, overlap=2, given=given)

    np.testing.assert_array_equal(labels, whole("stardist", maps, given=given))
    assert found.count == {"": 99, "2,2": 80, "6,6": 72}[network]


def test_a_cell_that_is_dropped_only_where_a_block_cuts_it_comes_back() -> None:
    family = next(f for f in FAMILIES if f.recipe == "flows")
    maps = family.maps(cells(26, 200, 5))

    labels, _ = in_blocks("flows", maps, 40, overlap=6, given={"flow_threshold": 0.05})

    np.testing.assert_array_equal(labels, whole("flows", maps, given={"flow_threshold": 0.05}))


def test_an_object_is_not_too_small_because_a_block_sees_a_part_of_it() -> None:
    maps = np.zeros((1, 60, 200), np.float32)
    maps[0, 20:40, 10:190] = 1
    one = RECIPES["components"]
    parameters = one.parameters_from({"min_size": 3000}, {})
    finish = Finish(min_size=3000)
    labels = np.zeros((60, 200), np.uint32)

    found = label_blocks(BlockWork(maps, (1, 1), one, parameters, 40, 8, finish), labels)

    assert found.count == 1
    np.testing.assert_array_equal(labels, maps[0])


def test_scores_follow_their_objects() -> None:
    family = next(f for f in FAMILIES if f.recipe == "mesmer")
    truth = cells(24, 120, 5)
    maps = family.maps(truth)
    strength = np.linspace(0.5, 1, truth.max() + 1)[truth].astype(np.float32)
    maps[1] *= strength
    given = {**family.parameters, "interior_threshold": 0.1}

    labels, found = in_blocks("mesmer", maps, 50, given=given)

    one = RECIPES["mesmer"]
    alone = one.apply(maps, (1, 1), one.parameters_from(given, {}))
    scores = found.columns_by(found.numbers())["score"]
    np.testing.assert_array_equal(labels, alone.labels)
    assert scores == pytest.approx(alone.scores)


def test_a_recipe_without_scores_gives_none() -> None:
    maps = np.ones((1, 9, 9), np.float32)

    _, found = in_blocks("components", maps, 4)

    assert found.columns_by(found.numbers()) == {}


def test_stacks_are_cut_along_y_and_x() -> None:
    truth = np.repeat(cells(25, 96, 4)[None], 5, 0)
    maps = (truth > 0)[None].astype(np.float32)

    labels, _ = in_blocks("components", maps, 40)

    np.testing.assert_array_equal(labels, whole("components", maps))


def test_flows_of_stacks_are_cut_nowhere() -> None:
    truth = np.repeat(cells(27, 96, 4)[None], 7, 0)
    way = flows_of_labels(truth[0])
    depth = np.reshape(np.linspace(1, -1, 7, dtype=np.float32), (7, 1, 1)) * (truth > 0)
    flow = np.stack([depth, *(np.repeat(part[None], 7, 0) for part in way)])
    noise = np.random.default_rng(27).standard_normal(flow.shape).astype(np.float32)
    maps = np.concatenate([5 * flow + 5 * noise, np.where(truth > 0, 6, -6)[None]]).astype(
        np.float32
    )

    labels, found = in_blocks("flows", maps, 40, overlap=16)

    np.testing.assert_array_equal(labels, whole("flows", maps))
    assert found.count >= 16


def test_a_map_without_objects_has_none() -> None:
    labels, found = in_blocks("components", np.zeros((1, 30, 30), np.float32), 10)

    assert labels.max() == found.count == 0
    assert found.numbers().tolist() == [0]


def test_otsu_of_strips_is_that_of_the_whole() -> None:
    maps = np.random.default_rng(0).beta(0.4, 0.6, (2, 1300, 40)).astype(np.float32)
    maps[1, 5] = np.nan

    for channel in (0, 1):
        assert streamed_otsu(maps, channel) == pytest.approx(
            threshold_of(maps[channel], -1), abs=1e-6
        )
    assert streamed_otsu(np.full((1, 9, 9), 0.25, np.float32), 0) == 0.25


@cache
def real_maps(shared: Path, name: str) -> FloatArray:
    """Give the output of a real network for one large image."""
    onnxruntime = pytest.importorskip("onnxruntime")
    image = tifffile.imread(shared / "data/stardist/img2d.tif").astype(np.float32)
    low, high = np.percentile(image, [1, 99.8])
    scaled = ((image - low) / (high - low + 1e-6)).astype(np.float32)[None, None]
    model = shared / "models/stardist-dsb2018/weights.onnx"
    if name != "stardist-dsb2018":
        model = Path(__file__).parents[2] / "src/bmz/starter" / name / "weights.onnx"
    session = onnxruntime.InferenceSession(model)
    found: FloatArray = session.run(None, {session.get_inputs()[0].name: scaled})[0][0]
    return found


REAL: Mapping[str, tuple[str, int, dict[str, Value]]] = {
    "stardist-dsb2018": ("stardist", 1, {"prob_threshold": 0.4, "nms_threshold": 0.5}),
    "nuclei": ("stardist", 2, {"prob_threshold": 0.5, "nms_threshold": 0.3}),
    "nuclei-flows": ("flows", 1, {"flow_threshold": 0.6}),
    "nuclei-contour": ("contour", 1, {"contour_threshold": 0.05, "seed_size": 3}),
}


@cache
def real_labels(shared: Path, name: str) -> LabelArray:
    recipe, grid, given = REAL[name]
    return whole(recipe, real_maps(shared, name), grid, given)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("side", [100, 160, 300])
def test_outputs_of_real_networks_are_cut_nowhere(name: str, side: int, shared: Path) -> None:
    recipe, grid, given = REAL[name]
    maps = real_maps(shared, name)

    labels, _ = in_blocks(recipe, maps, side, overlap=64 // grid, grid=grid, given=given)

    wanted = real_labels(shared, name)
    assert labels.max() == wanted.max() > 80
    assert 1 - adapted_rand_error(wanted, labels)[0] == pytest.approx(1, abs=1e-12)


@cache
def membrane_maps(shared: Path) -> FloatArray:
    onnxruntime = pytest.importorskip("onnxruntime")
    from skimage.io import imread

    image = imread(shared / "data/isbi2012/images/00.png").astype(np.float32)
    scaled = ((image - image.mean()) / (image.std() + 1e-6))[None, None]
    session = onnxruntime.InferenceSession(shared / "models/cremi-membrane/weights.onnx")
    found: FloatArray = session.run(None, {session.get_inputs()[0].name: scaled})[0][0]
    return found


@pytest.fixture(scope="module")
def membranes(shared: Path) -> dict[str, LabelArray]:
    """Give the labels in one piece by recipe."""
    return {recipe: whole(recipe, membrane_maps(shared)) for recipe in ("boundary", "gasp")}


@pytest.mark.parametrize("side", [100, 160, 300])
def test_membranes_joined_across_the_image_nearly_agree(
    side: int, shared: Path, membranes: dict[str, LabelArray]
) -> None:
    for recipe, wanted in membranes.items():
        labels, _ = in_blocks(recipe, membrane_maps(shared), side, overlap=64)
        assert 1 - adapted_rand_error(wanted, labels)[0] >= 0.99


def test_objects_are_numbered_in_raster_order_whatever_the_order_in_which_they_were_found() -> None:
    found = Found([np.array([50, 7]), np.array([], np.int64), np.array([20])])

    numbers = found.numbers()

    assert found.count == 3
    assert numbers.tolist() == [0, 3, 1, 2]
    assert found.first_by(numbers).tolist() == [7, 20, 50]


def test_objects_that_were_dropped_leave_no_gap_in_first_pixels_and_columns() -> None:
    found = Found(
        [np.array([50, 7]), np.array([20])],
        [
            {"score": np.array([0.5, 0.75]), "class": np.array(["a", "b"])},
            {"score": np.array([0.25]), "class": np.array(["longer"])},
        ],
    )

    without_the_second = np.array([0, 2, 0, 1])

    assert found.first_by(without_the_second).tolist() == [20, 50]
    columns = found.columns_by(without_the_second)
    assert columns["score"].tolist() == [0.25, 0.5]
    assert columns["class"].tolist() == ["longer", "a"]
    assert found.headings == ["score", "class"]
    assert [*found.columns_by(without_the_second, {"class", "other"})] == ["class"]
    nobody = found.columns_by(np.zeros(4, np.int64))["score"]
    assert nobody.shape == found.first_by(np.zeros(4, np.int64)).shape == (0,)


def spots() -> BlockWork:
    """Give work of 3 x 2 blocks; some objects cross their edges."""
    maps = np.zeros((1, 30, 20), np.float32)
    for y, x in ((1, 1), (4, 8), (12, 3), (18, 12), (26, 15)):
        maps[0, y : y + 4, x : x + 4] = 1
    one = RECIPES["components"]
    return BlockWork(maps, (1, 1), one, one.parameters_from({}, {}), 10, 5)


@pytest.mark.parametrize("stopped_after", [1, 2, 5])
def test_a_call_that_was_cut_short_goes_on_where_it_stopped(stopped_after: int) -> None:
    work, labels, whole = spots(), np.zeros((30, 20), np.uint32), np.zeros((30, 20), np.uint32)
    heard: list[Event] = []
    every = label_blocks(work, whole)

    class Stopped(Exception):
        pass

    so_far = Found()

    def keep(found: Found) -> None:
        so_far.first = list(found.first)
        if len(found.first) == stopped_after:
            raise Stopped

    with pytest.raises(Stopped):
        label_blocks(work, labels, keep=keep)
    found = label_blocks(work, labels, heard.append, before=so_far)

    np.testing.assert_array_equal(labels, whole)
    assert found.numbers().tolist() == every.numbers().tolist()
    assert heard == [Progress("blocks", done, 6) for done in range(stopped_after + 1, 7)]


def test_each_object_is_owned_by_the_block_in_which_it_begins() -> None:
    found = label_blocks(spots(), np.zeros((30, 20), np.uint32))

    # the places of `spots`, block by block
    begins = [[(1, 1), (4, 8)], [], [(12, 3)], [(18, 12)], [], [(26, 15)]]
    assert [[divmod(at, 20) for at in one.tolist()] for one in found.first] == begins


def test_a_block_as_large_as_the_map_needs_no_overlap() -> None:
    work, heard = replace(spots(), side=30, overlap=0), list[Event]()

    found = label_blocks(work, np.zeros((30, 20), np.uint32), heard.append)

    assert (found.count, found.widest_overlap) == (5, 0)
    assert heard == [Progress("blocks", 1, 1)]


def test_an_overlap_grows_by_a_factor_of_2_until_the_object_ends_within_it() -> None:
    maps = np.zeros((1, 8, 64), np.float32)
    maps[0, 2, :20] = 1
    work, heard = replace(spots(), maps=maps, side=8, overlap=3), list[Event]()

    found = label_blocks(work, np.zeros((8, 64), np.uint32), heard.append)

    notes = [str(event.text) for event in heard if isinstance(event, Note)]
    wider = "an object is larger than the overlap of blocks; continuing with {} px"
    # the block ends at 8; the object ends at 20 and must not touch the end of what is seen
    assert notes[:2] == [wider.format(6), wider.format(12)]
    assert found.widest_overlap == 24
    assert found.count == 1
