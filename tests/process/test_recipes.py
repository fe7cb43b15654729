"""The simple label recipes, in planes and stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from skimage.segmentation import find_boundaries, watershed

from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.errors import BmzError
from bmz.process.boundary import BOUNDARY, number_insides
from bmz.process.components import ARGMAX, COMPONENTS, LABELS
from bmz.process.matching import match_labels
from bmz.process.recipe import Finish, Recipe
from bmz.process.recipes import RECIPES
from bmz.process.relabel import finish_labels

SIMPLE = [BOUNDARY, COMPONENTS, ARGMAX, LABELS]


def found(recipe: Recipe, output: AnyArray, *words: str, grid: int = 1) -> LabelArray:
    """Label as the program does: defaults, then words."""
    parameters = recipe.parameters_from({}, dict(word.split("=") for word in words))
    labelled = recipe.apply(output, (grid,) * (output.ndim - 1), parameters)
    return finish_labels(labelled, Finish.of(parameters, recipe.own)).labels


def checkerboard(*cells: int, side: int = 12) -> AnyArray:
    """Give square cells side by side, numbered in raster order, that fill the image."""
    board = np.arange(1, 1 + int(np.prod(cells))).reshape(cells)
    for axis in range(len(cells)):
        board = np.repeat(board, side, axis)
    return board


def edges(truth: AnyArray) -> AnyArray:
    drawn: AnyArray = find_boundaries(truth, mode="thick").astype(np.float32)
    return drawn


def test_every_recipe_is_found_by_its_name() -> None:
    assert {"stardist", "flows", "mesmer", "contour", "affinities", "masks"} < set(RECIPES)
    assert all(RECIPES[name].name == name for name in RECIPES)


@pytest.mark.parametrize("recipe", SIMPLE, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30)])
def test_labels_lie_on_the_grid_of_the_input(recipe: Recipe, shape: tuple[int, ...]) -> None:
    plain = ndimage.gaussian_filter(np.random.default_rng(1).random(shape), 2)
    mask = (plain > np.median(plain)).astype(np.float32)
    output = mask[None] if recipe is LABELS else np.stack([1 - mask, mask])
    grid = (1, 2, 3)[-len(shape) :]

    labels = recipe.label(output, grid, recipe.settings()).labels

    assert labels.shape == tuple(n * step for n, step in zip(shape, grid, strict=True))
    assert labels.dtype == np.int32
    every = labels[tuple(slice(None, None, step) for step in grid)]
    for axis, step in enumerate(grid):
        every = np.repeat(every, step, axis)
    np.testing.assert_array_equal(labels, every)


@pytest.mark.parametrize("recipe", SIMPLE, ids=lambda recipe: recipe.name)
def test_recipes_leave_their_input_alone(recipe: Recipe) -> None:
    output = np.random.default_rng(2).integers(0, 2, (2, 9, 9)).astype(np.float32)
    output = output[:1] if recipe is LABELS else output
    before = output.copy()

    found(recipe, output)

    np.testing.assert_array_equal(output, before)


# -- components


def test_components_join_at_corners_only_when_asked() -> None:
    output = np.eye(4, dtype=np.float32)[None]

    assert found(COMPONENTS, output).max() == 1
    assert found(COMPONENTS, output, "diagonal=false").max() == 4
    assert found(COMPONENTS, np.eye(4)[None, :, None, :], "diagonal=no").max() == 4


def test_components_take_their_channel_threshold_and_least_size() -> None:
    output = np.zeros((2, 3, 9), np.float32)
    output[1, 1] = [0.3, 0.3, 0, 0.8, 0, 0.8, 0.8, 0.8, 0]

    assert found(COMPONENTS, output).max() == 0
    assert found(COMPONENTS, output, "channel=1").max() == 2
    assert found(COMPONENTS, output, "channel=1", "threshold=0.2").max() == 3
    assert found(COMPONENTS, output, "channel=1", "min_size=2").tolist()[1][5:8] == [1, 1, 1]
    assert found(COMPONENTS, output, "channel=1", "min_size=12", grid=2).max() == 1
    assert found(COMPONENTS, output, "channel=1", "min_size=13", grid=2).max() == 0


def test_components_of_a_published_mask_are_as_many_as_published(shared: Path) -> None:
    mask = tifffile.imread(shared / "golden/psc-keras__exampleImage.mask.tif")[None]

    assert found(COMPONENTS, mask).max() == 320
    assert found(COMPONENTS, mask, "diagonal=false").max() == 341


@given(npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=3, max_side=6)))
def test_components_cover_the_foreground_and_nothing_else(mask: AnyArray) -> None:
    labels = found(COMPONENTS, mask[None])

    np.testing.assert_array_equal(labels > 0, mask)
    first = [int(np.flatnonzero(labels == k)[0]) for k in range(1, int(labels.max()) + 1)]
    assert first == sorted(first)


# -- boundary


@pytest.mark.parametrize("cells", [(3, 4), (2, 2, 3)])
def test_boundaries_alone_fill_the_image_with_cells(cells: tuple[int, ...]) -> None:
    truth = checkerboard(*cells)

    labels = found(BOUNDARY, edges(truth)[None], "seed_distance=4")

    np.testing.assert_array_equal(labels, truth)


@pytest.mark.parametrize("cells", [(3, 4), (2, 2, 3)])
def test_of_two_maps_the_first_is_the_foreground_and_the_second_the_boundary(
    cells: tuple[int, ...],
) -> None:
    truth = checkerboard(*cells)
    truth[truth % 3 == 0] = 0
    output = np.stack([(truth > 0).astype(np.float32), edges(truth)])

    labels = found(BOUNDARY, output)

    np.testing.assert_array_equal(labels > 0, truth > 0)
    assert match_labels(labels, truth, 0.99).tp == len(np.unique(truth)) - 1


def test_of_three_maps_somebody_must_say_which_is_which() -> None:
    output = np.random.default_rng(0).random((3, 20, 20))

    with pytest.raises(BmzError, match="foreground_channel") as refusal:
        found(BOUNDARY, output)
    labels = found(BOUNDARY, output, "foreground_channel=-1", "boundary_channel=2")

    assert refusal.value.code == "recipe.channels"
    assert labels.min() == 1


def test_channels_that_exclude_each_other_make_a_cell_of_inside_and_contour() -> None:
    truth = checkerboard(2, 3)
    truth[truth == 2] = 0
    contour = edges(truth) * (truth > 0)
    nucleus = (truth > 0) - contour
    output = np.stack([1 - contour - nucleus, contour, nucleus])

    labels = found(BOUNDARY, output, "foreground_channel=2", "boundary_channel=1")

    np.testing.assert_array_equal(labels > 0, truth > 0)


def test_a_background_map_tells_where_no_cell_is() -> None:
    truth = checkerboard(2, 2)
    truth[truth == 2] = 0
    output = np.stack([edges(truth), (truth == 0).astype(np.float32)])
    words = ("foreground_channel=-1", "boundary_channel=0", "background_channel=1")

    labels = found(BOUNDARY, output, *words)

    np.testing.assert_array_equal(labels > 0, truth > 0)
    assert labels.max() == 3


def test_a_faint_boundary_in_a_doubtful_foreground_parts_two_cells() -> None:
    output = np.zeros((2, 30, 41), np.float32)
    output[0, 5:25, 5:36] = 0.9
    output[0, 5:25, 19:22] = 0.7  # the foreground that is left where two cells meet
    output[1, 5:25, 19:22] = 0.45

    labels = found(BOUNDARY, output)

    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, output[0] > 0.5)
    assert found(BOUNDARY, output, "boundary_threshold=0.8").max() == 1


@pytest.mark.parametrize("size", [(12, 12), (8, 8, 8)])
def test_insides_that_touch_at_a_corner_are_two_cells_unless_both_are_beyond_doubt(
    size: tuple[int, ...],
) -> None:
    truth = np.zeros([2 * side for side in size], np.int64)
    halves = (slice(None, side) for side in size), (slice(side, None) for side in size)
    for number, half in enumerate(halves, start=1):
        truth[tuple(half)] = number
    output = np.stack([truth > 0, np.zeros(truth.shape)]).astype(np.float32)

    np.testing.assert_array_equal(found(BOUNDARY, output * np.float32(0.85)), truth)
    np.testing.assert_array_equal(found(BOUNDARY, output), truth > 0)


def test_a_speck_at_a_corner_of_an_inside_is_no_cell() -> None:
    output = np.zeros((2, 30, 30), np.float32)
    output[0, 5:25, 5:25] = 1
    output[1, 5, 8:25] = output[1, 6:9, 8] = 1  # parts three pixels from the cell, but for a corner
    output[1, 8, 5:8] = 1
    output[1, 8, 7] = 0

    labels = found(BOUNDARY, output, "min_size=12")

    assert labels.max() == 1


def test_an_inside_that_noise_has_crumbled_is_one_cell() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((40, 90), np.int64)
    truth[4:36, 4:42], truth[4:36, 48:86] = 1, 2
    output = np.stack([0.85 * (truth > 0), np.zeros(truth.shape)])
    output[0] = np.where(rng.random(truth.shape) < 0.35, output[0] - 0.3, output[0])
    output[1] = np.where(rng.random(truth.shape) < 0.1, 0.3, 0)

    labels = found(BOUNDARY, output)

    assert match_labels(labels, truth, 0.8).tp == 2
    assert labels.max() == 2


NOISE = {"ideal": (0.0, 0.0), "light": (0.7, 0.1), "medium": (1.2, 0.25), "strong": (2.0, 0.5)}
"""Blur in px and standard deviation of noise."""


def noisy_maps(truth: AnyArray, strength: str) -> AnyArray:
    """Give foreground and boundary of a mask, blurred and with noise."""
    rng = np.random.default_rng(0)
    blur, noise = NOISE[strength]
    clean = np.stack([(truth > 0).astype(np.float32), edges(truth)])
    soft = ndimage.gaussian_filter(clean, (0, blur, blur)) if blur else clean
    return np.clip(soft + rng.normal(0, noise, soft.shape), 0, 1).astype(np.float32)


def by_components_with_corners(output: AnyArray) -> AnyArray:
    """Label as torch_em/util/segmentation.py 0.10.9 does in ``watershed_from_components``."""
    foreground, boundary = output
    seeds, _ = ndimage.label(foreground - boundary > 0.5, np.ones((3, 3)))
    labels = watershed(boundary, seeds, mask=foreground > 0.5)
    large: AnyArray = np.where(np.bincount(labels.ravel())[labels] < 15, 0, labels)
    return large.astype(np.int32)


@pytest.mark.parametrize("strength", NOISE)
def test_foreground_and_boundary_are_as_good_as_by_torch_em(strength: str, shared: Path) -> None:
    from skimage.io import imread

    differences = []
    for name in ("Kc167/095", "cytomembrane/309", "neurocyte/044"):
        truth = imread(shared / f"data/scellseg/{name}_masks.png")[:300, :300].astype(np.int64)
        output = noisy_maps(truth, strength)
        ours, theirs = found(BOUNDARY, output), by_components_with_corners(output)
        pair = [[match_labels(one, truth, iou).f1 for iou in (0.5, 0.8)] for one in (ours, theirs)]
        differences.append(np.subtract(pair[0], pair[1]))

    assert np.mean(differences, axis=0).min() >= -0.01


def touching_discs() -> AnyArray:
    y, x = np.mgrid[:60, :90]
    inside = ((y - 30) ** 2 + (x - 30) ** 2 < 400) | ((y - 30) ** 2 + (x - 59) ** 2 < 330)
    return np.stack([inside, np.zeros_like(inside)]).astype(np.float32)


def test_seed_distance_splits_what_has_no_boundary_between() -> None:
    output = touching_discs()

    assert found(BOUNDARY, output).max() == 1
    assert found(BOUNDARY, output, "seed_distance=10").max() == 2
    assert found(BOUNDARY, output, "seed_distance=40").max() == 1


def test_seed_distance_loses_no_small_object_beside_a_large_one() -> None:
    output = np.zeros((2, 40, 60), np.float32)
    output[0, 5:35, 5:35] = 1
    output[0, 18:23, 38:43] = 1

    labels = found(BOUNDARY, output, "seed_distance=20")

    assert labels[20, 40] not in (0, labels[20, 20])


def test_a_cell_that_is_too_small_gives_its_pixels_to_a_neighbour() -> None:
    truth = np.ones((20, 30), np.int64)
    truth[:, 15:] = 2
    truth[7:13, 5:11] = 3
    output = np.stack([np.ones_like(truth), edges(truth)])

    split = found(BOUNDARY, output)
    joined = found(BOUNDARY, output, "min_size=60")

    assert split[10, 8] not in (split[0, 0], split[0, 29])
    assert joined.min() == 1
    assert joined[10, 8] == joined[0, 0]
    assert (split.max(), joined.max()) == (3, 2)


def test_distances_are_in_pixels_of_the_input() -> None:
    fine = touching_discs()
    coarse = fine[:, ::2, ::2]

    assert found(BOUNDARY, fine, "seed_distance=20").max() == 2
    assert found(BOUNDARY, coarse, "seed_distance=20", grid=2).max() == 2
    assert found(BOUNDARY, coarse, "seed_distance=20").max() == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_maps_without_any_contrast_give_no_more_than_one_object(
    value: float, channels: int
) -> None:
    output = np.full((channels, 16, 16), value, np.float32)

    labels = found(BOUNDARY, output)

    assert labels.max() == (1 if channels == 1 and value == 0 else 0)


def test_unmicst_contours_become_the_nuclei_of_its_own_rule(shared: Path) -> None:
    output = np.load(shared / "models/unmicst-nuclei/test_output.npy")[0].transpose(2, 0, 1)
    background, contour, nucleus = output
    seeds, _ = ndimage.label((nucleus > 0.5) & (contour < 0.5))
    rule = watershed(contour - nucleus, seeds, mask=background < 0.5)

    labels = found(BOUNDARY, output, "foreground_channel=2", "boundary_channel=1", "min_size=0")

    np.testing.assert_array_equal(labels > 0, rule > 0)
    assert labels.max() == rule.max()
    assert match_labels(labels, rule, 0.8).tp >= 0.9 * rule.max()


def test_cremi_membranes_become_about_as_many_cells_as_its_readme_says(shared: Path) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    image = tifffile.imread(shared / "data/neubias/xyc_8bit__membranes_nuclei.tif")[0]
    dark = 255 - image.astype(np.float32)
    padded = np.pad(
        (dark - dark.mean()) / (dark.std() + 1e-6),
        [(0, -n % 32) for n in image.shape],
        mode="reflect",
    )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        str(shared / "models/cremi-membrane/weights.onnx"), options,
        providers=["CPUExecutionProvider"],
    )  # fmt: skip
    (output,) = session.run(None, {session.get_inputs()[0].name: padded[None, None]})

    labels = found(BOUNDARY, output[0][:, : image.shape[0], : image.shape[1]])

    assert 33 <= labels.max() <= 60
    assert labels.min() == 1


# -- argmax


def test_argmax_numbers_the_objects_of_each_class() -> None:
    classes = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [1, 2, 2, 0]])
    output = np.eye(3, dtype=np.float32)[classes].transpose(2, 0, 1)

    assert found(ARGMAX, output).tolist() == [[1, 1, 0, 2], [0, 0, 0, 2], [3, 2, 2, 0]]
    by_faces = found(ARGMAX, output, "diagonal=false")
    assert by_faces.tolist() == [[1, 1, 0, 2], [0, 0, 0, 2], [3, 4, 4, 0]]


def test_argmax_gives_classes_where_no_objects_are_wanted() -> None:
    output = np.eye(4, dtype=np.float32)[np.array([[3, 1, 0, 2]])].transpose(2, 0, 1)

    assert found(ARGMAX, output, "instances=false").tolist() == [[3, 1, 0, 2]]
    assert found(ARGMAX, output, "instances=false", "background=2").tolist() == [[3, 2, 1, 0]]
    assert found(ARGMAX, output, "instances=false", "background=-1").tolist() == [[4, 2, 1, 3]]


def test_argmax_tells_the_class_of_each_object() -> None:
    classes = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [1, 0, 1, 0]])
    output = np.eye(3, dtype=np.float32)[classes].transpose(2, 0, 1)

    def told(*words: str) -> list[str]:
        settings = dict(word.split("=", 1) for word in words)
        done = ARGMAX.apply(output, (2, 2), ARGMAX.parameters_from({}, settings))
        return done.columns["class"].tolist()  # type: ignore[no-any-return]  # NumPy

    assert told("diagonal=false") == ["1", "2", "1", "1"]
    assert told("diagonal=false", "classes=nothing,cell,crypt") == ["cell", "crypt", "cell", "cell"]
    assert set(told("background=-1", "classes=nothing,cell,crypt")) == {"nothing", "cell", "crypt"}
    with pytest.raises(BmzError, match="2 classes, one per channel"):
        told("classes=cell,crypt")


def test_argmax_tells_no_class_where_all_objects_are_of_one_that_nobody_named() -> None:
    output = np.eye(2, dtype=np.float32)[np.array([[1, 0, 1]])].transpose(2, 0, 1)

    plain = ARGMAX.apply(output, (1, 1), ARGMAX.parameters_from({}, {}))
    named = ARGMAX.apply(output, (1, 1), ARGMAX.parameters_from({"classes": "gel,band"}, {}))

    assert "class" not in plain.columns
    assert named.columns["class"].tolist() == ["band", "band"]


@given(
    npst.arrays(np.float64, (3, 4, 5), elements=st.integers(-9, 9).map(float)),
    st.floats(0.1, 5),
)
def test_argmax_is_the_same_for_logits_and_their_probabilities(
    logits: AnyArray, heat: float
) -> None:
    shares = np.exp(logits * heat)
    shares /= shares.sum(axis=0)

    np.testing.assert_array_equal(found(ARGMAX, shares), found(ARGMAX, logits))


def test_argmax_drops_small_objects_in_stacks_too() -> None:
    output = np.zeros((2, 3, 4, 5), np.float32)
    output[1, 0, 0, :2] = 1
    output[1, 2, 3, 4] = 1

    assert found(ARGMAX, output).max() == 2
    assert found(ARGMAX, output, "min_size=2").max() == 1


@pytest.mark.parametrize(("channels", "word"), [(1, "background=0"), (2, "background=2")])
def test_argmax_refuses_too_few_channels(channels: int, word: str) -> None:
    with pytest.raises(BmzError) as refusal:
        found(ARGMAX, np.zeros((channels, 4, 4)), word)

    assert refusal.value.code == "recipe.channels"


# -- labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float16, np.bool_])
def test_labels_of_any_dtype_are_numbered_in_raster_order(dtype: type) -> None:
    output: AnyArray = np.array([[[0, 9, 9], [4, 0, 4]]]).astype(dtype)

    labels = found(LABELS, output)

    expected = [[0, 1, 1], [1, 0, 1]] if dtype is np.bool_ else [[0, 1, 1], [2, 0, 2]]
    assert labels.tolist() == expected


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -1.0])
def test_what_is_no_label_is_refused(value: float) -> None:
    output = np.array([[[0, 1, value]]])

    with pytest.raises(BmzError, match=f"{value:g}") as refusal:
        found(LABELS, output)

    assert refusal.value.code == "recipe.not-labels"


def test_labels_in_several_channels_are_refused() -> None:
    with pytest.raises(BmzError, match="2 channels") as refusal:
        found(LABELS, np.zeros((2, 4, 4), np.uint8))

    assert refusal.value.code == "recipe.channels"


@pytest.mark.parametrize("shape", [(30, 40), (6, 12, 15)])
@pytest.mark.parametrize("seed", range(3))
def test_insides_that_touch_at_a_corner_are_one_where_both_are_sure(
    seed: int, shape: tuple[int, ...]
) -> None:
    inside = np.random.default_rng(seed).random(shape) < 0.35
    corners = np.ones((3,) * len(shape))

    joined = number_insides(inside, inside, 0)
    parted = number_insides(inside, np.zeros_like(inside), 0)

    for numbers, structure in ((joined, corners), (parted, None)):
        expected, count = ndimage.label(inside, structure)
        pairs = np.unique(np.stack([numbers[inside], expected[inside]]), axis=1)
        assert pairs.shape[1] == count == len(np.unique(pairs[0]))
    assert not joined[~inside].any()
