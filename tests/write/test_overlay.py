from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.write.overlay import (
    _grown,
    beside,
    fullest_plane,
    outline,
    outline_colours,
    overlay,
)
from bmz.write.result import doubted_labels
from bmz.write.shown import in_colour, stretched, write_png


def array(pixels: AnyArray, axes: str) -> Pixels:
    return Pixels(pixels, tuple(axes))


def two_squares(side: int = 600) -> AnyArray:
    labels = np.zeros((side, side), np.int32)
    labels[100:200, 100:200] = 1
    labels[100:200, 200:300] = 2
    return labels


def test_outlines_lie_inside_their_objects() -> None:
    labels = two_squares()

    edge = outline(labels)

    assert not edge[labels == 0].any()
    assert edge[100:102, 100:300].all()
    assert not edge[102:198, 102:198].any()


@pytest.mark.parametrize(("side", "factor"), [(40, 26), (256, 4), (300, 3), (512, 2)])
def test_an_enlarged_picture_has_outlines_of_two_of_its_own_pixels(side: int, factor: int) -> None:
    chance = np.random.default_rng(side)
    labels = np.kron(chance.integers(0, 4, (8, 5)), np.ones((side // 8, 7), int))
    dark = array(np.zeros(labels.shape, np.uint8), "yx")
    large = np.kron(labels, np.ones((factor, factor), int))

    picture = overlay(dark, array(labels, "yx"))

    np.testing.assert_array_equal(picture.any(-1), outline(large))


def test_an_object_is_open_where_the_image_ends() -> None:
    labels = np.ones((20, 20), np.int32)

    assert not outline(labels).any()


@pytest.mark.parametrize("bright", [False, True])
def test_objects_that_touch_have_different_colours(*, bright: bool) -> None:
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((8, 8), int))

    colours = outline_colours(labels, bright=bright)

    for one, other in ((1, 2), (1, 4), (5, 6), (5, 8), (5, 2)):
        assert not np.array_equal(colours[one], colours[other])


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((600, 800), (600, 800)),
        ((300, 200), (900, 600)),
        ((354, 475), (708, 950)),
        ((10, 4096), (5, 2048)),
        ((1, 1), (1024, 1024)),
    ],
)
def test_pictures_have_a_handy_size(shape: tuple[int, int], drawn: tuple[int, int]) -> None:
    picture = overlay(array(np.zeros(shape), "yx"), array(np.zeros(shape, int), "yx"))

    assert picture.shape == (*drawn, 3)
    assert picture.dtype == np.uint8


def test_a_large_image_is_averaged_and_its_outlines_are_drawn_afterwards() -> None:
    image = np.zeros((60, 3072), np.uint8)
    image[::2] = 200
    labels = np.zeros((60, 3072), np.int32)
    labels[15:45, 600:1200] = 1
    photograph = replace(array(np.stack([image] * 3), "cyx"), colour=True)

    picture = overlay(photograph, array(labels, "yx"))

    assert picture.shape == (40, 2048, 3)
    down = np.ptp(picture[:, 600].astype(int), axis=1)  # grey has no spread, an outline has
    assert np.flatnonzero(down > 50).tolist() == [10, 11, 28, 29]


def test_the_plane_with_most_objects_is_drawn() -> None:
    labels = np.zeros((2, 3, 4, 4), int)
    labels[0, 0, 0, 0] = 9
    labels[1, 2, 0] = [1, 2, 3, 3]

    assert fullest_plane(array(labels, "tzyx")) == {"t": 1, "z": 2}
    assert fullest_plane(array(labels[0, 0], "yx")) == {}


def test_image_and_outline_come_from_the_same_plane() -> None:
    image = np.zeros((2, 700, 700), np.float32)
    image[1, :350] = 1
    labels = np.zeros((2, 700, 700), np.int32)
    labels[1, 400:500, 400:500] = 7

    picture = overlay(array(image, "zyx"), array(labels, "zyx"))

    assert picture[10, 10].tolist() == [255, 255, 255]
    assert picture[400, 450].tolist() != [0, 0, 0]
    assert picture[450, 450].tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_stains_of_any_number_are_shown(count: int) -> None:
    image = np.random.default_rng(0).random((count, 20, 20))

    shown = in_colour(array(image, "cyx"))

    assert shown.shape == (20, 20, 3)
    assert shown.min() < shown.max()


def test_a_photograph_keeps_its_colours() -> None:
    image = array(np.random.default_rng(0).integers(0, 255, (3, 40, 40), np.uint8), "cyx")

    shown = in_colour(replace(image, colour=True))

    assert np.abs(shown - np.moveaxis(image.array, 0, -1).astype(float)).max() < 5


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 5), np.uint16),
        np.full((5, 5), np.nan),
        np.array([[np.inf, 1.0], [0.0, np.nan]]),
        np.eye(5, dtype=bool),
    ],
)
def test_flat_and_odd_values_are_stretched_without_a_word(pixels: AnyArray) -> None:
    shown = stretched(pixels)

    assert np.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_the_picture_of_real_cells_shows_each_of_them(shared: Path, tmp_path: Path) -> None:
    image = shared / "data" / "neubias" / "xyc_8bit__membranes_nuclei.tif"
    golden = shared / "golden" / "cellpose-cyto__membranes_nuclei-d60.labels.tif"

    picture = overlay(read_image(inspect_image(image)), read_image(inspect_image(golden)))
    write_png(tmp_path / "a.overlay.png", picture)

    with Image.open(tmp_path / "a.overlay.png") as file:
        assert file.size == (950, 708)
        colours = np.asarray(file).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 1000


@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)
    )
)
def test_outlines_are_where_the_label_changes_within_two_pixels(labels: AnyArray) -> None:
    highest = ndimage.maximum_filter(labels, 5, mode="nearest")
    lowest = ndimage.minimum_filter(labels, 5, mode="nearest")
    inside = labels > 0

    edge = outline(labels)

    np.testing.assert_array_equal(edge, inside & (highest != lowest))
    np.testing.assert_array_equal(beside(edge), ndimage.binary_dilation(edge) & ~edge)


@given(hnp.arrays(np.int32, (14, 17), elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])))
def test_labels_grow_over_near_ground_as_by_the_distance_of_scipy(labels: AnyArray) -> None:
    away, nearest_at = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    wanted = np.where(away <= 2, labels[tuple(nearest_at)], 0)

    assert not labels.any() or np.array_equal(_grown(labels), wanted)


def test_objects_of_a_class_have_one_colour_and_those_of_another_one_another() -> None:
    labels = np.zeros((90, 90), int)
    for number, (y, x) in enumerate(((10, 10), (10, 50), (50, 10), (50, 50)), start=2):
        labels[y : y + 20, x : x + 20] = number
    kinds = np.array([0, 0, 1, 0, 1, 0])

    picture = overlay(array(np.zeros((90, 90)), "yx"), array(labels, "yx"), kinds)

    step = picture.shape[0] // 90
    edges = [tuple(picture[y * step, (x + 10) * step].tolist()) for y, x in
             ((10, 10), (10, 50), (50, 10), (50, 50))]  # fmt: skip
    assert edges[0] == edges[2] != edges[1] == edges[3]


def test_the_outline_of_a_doubted_object_is_dashed() -> None:
    image, labels = array(np.zeros((600, 600), np.uint8), "yx"), array(two_squares(), "yx")

    plain, dashed = overlay(image, labels), overlay(image, labels, doubted={2})

    changed = (plain != dashed).any(-1)
    assert not changed[:, : 200 * plain.shape[1] // 600].any()
    enlarged = two_squares().repeat(2, 0).repeat(2, 1)
    assert plain.shape[:2] == enlarged.shape
    dashes = outline(np.where(enlarged == 2, 2, 0)).sum()
    assert 0.4 < changed.sum() / dashes < 0.6


def test_doubted_objects_are_those_that_the_record_names() -> None:
    assert doubted_labels({}) == frozenset()
    assert doubted_labels({"doubted": [{"label": 3, "confidence": 0.1}]}) == {3}
