"""Measures of all objects at once are those of scikit-image, object by object."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label, perimeter, regionprops_table
from tests.process.ideal_maps import cells
from tests.strategies import label_masks

from bmz.base.arrays import AnyArray, LabelArray
from bmz.image.pixels import Pixels
from bmz.process.measure import ObjectValues, measure_objects
from bmz.process.object_shapes import Runs, convex_areas, perimeters, runs_of

pytest.importorskip("skimage", minversion="0.25", reason="older ones measure no median")

NAMES = {
    "label": "label",
    "centroid-0": "centroid_y_px",
    "centroid-1": "centroid_x_px",
    "area": "area_px",
    "equivalent_diameter_area": "equivalent_diameter_area_px",
    "perimeter": "perimeter_px",
    "axis_major_length": "axis_major_length_px",
    "axis_minor_length": "axis_minor_length_px",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "bbox-0": "bbox_y_min_px",
    "bbox-1": "bbox_x_min_px",
    "bbox-2": "bbox_y_max_px",
    "bbox-3": "bbox_x_max_px",
    "intensity_mean": "intensity_mean",
    "intensity_median": "intensity_median",
    "intensity_max": "intensity_max",
    "intensity_min": "intensity_min",
}


def values_of(labels: LabelArray, image: AnyArray) -> ObjectValues:
    inside = labels > 0
    return ObjectValues(image[inside], labels[inside].astype(np.int64) - 1)


def compared(labels: LabelArray, image: AnyArray) -> None:
    wanted = dict.fromkeys(["orientation", *(name.split("-")[0] for name in NAMES)])
    theirs = regionprops_table(labels, image.astype(np.float64), properties=tuple(wanted))

    ours = measure_objects(Pixels(labels, ("y", "x")), Pixels(image, ("y", "x")))

    # a turn by 180 degrees is none, and what is round has no direction
    longer = theirs["axis_major_length"] > theirs["axis_minor_length"] * (1 + 1e-6)
    turn = ours["orientation_rad"] - theirs["orientation"]
    np.testing.assert_allclose(np.sin(turn[longer]), 0, atol=1e-7)
    for name, column in NAMES.items():
        np.testing.assert_allclose(ours[column], theirs[name], rtol=1e-9, atol=2e-7, err_msg=name)


def blots(seed: int, *, large: bool = False) -> LabelArray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((60, 70)), rng.uniform(0.5, 4 if large else 2))
    found: LabelArray = label(noise > np.quantile(noise, rng.uniform(0.5, 0.9)), connectivity=1)
    return found


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_measures_are_those_of_scikit_image(seed: int, large: bool) -> None:
    labels = blots(seed, large=large)
    image = np.random.default_rng(seed).integers(0, 60_000, labels.shape).astype(np.uint16)

    compared(labels, image)


def test_measures_of_real_nuclei_are_those_of_scikit_image(shared: Path) -> None:
    for file in sorted((shared / "data/dsb2018/test/masks").glob("*.tif"))[::16]:
        labels = tifffile.imread(file).astype(np.int32)
        image = tifffile.imread(file.parents[1] / "images" / file.name)

        compared(labels, image)


def test_lengths_in_um_are_those_of_scikit_image() -> None:
    labels = cells(4)
    um = {"y": 0.5, "x": 0.2}
    names = ("axis_major_length", "axis_minor_length")
    theirs = regionprops_table(labels, properties=names, spacing=(0.5, 0.2))

    ours = measure_objects(Pixels(labels, ("y", "x"), um), Pixels(labels, ("y", "x")))

    for name in names:
        np.testing.assert_allclose(ours[f"{name}_um"], theirs[name], rtol=1e-9)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_hull_of_any_pixels_is_that_of_scikit_image(pixels: AnyArray) -> None:
    if not pixels.any():
        assert convex_areas(runs_of(pixels.astype(np.int32))).tolist() == []
        return
    table = regionprops_table(pixels.astype(np.uint8), properties=("area_convex",))

    assert convex_areas(runs_of(pixels.astype(np.int32))).tolist() == table["area_convex"].tolist()


def test_hulls_of_objects_that_lie_in_each_other_are_apart() -> None:
    labels = np.full((9, 9), 1, np.int32)
    labels[1:8, 1:8] = 2
    labels[4, 4] = 3

    assert convex_areas(runs_of(labels)).tolist() == [81, 49, 1]


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_ranks_are_right_for_every_dtype(dtype: str) -> None:
    rng = np.random.default_rng(0)
    labels = cells(8)
    image: Any = (rng.normal(size=labels.shape) * 90).astype(dtype)
    index = np.arange(1, labels.max() + 1)

    found = values_of(labels, image)

    exact = image.astype(np.float64)
    np.testing.assert_array_equal(found.lowest(), ndimage.minimum(exact, labels, index))
    np.testing.assert_array_equal(found.highest(), ndimage.maximum(exact, labels, index))
    np.testing.assert_array_equal(found.median(), ndimage.median(exact, labels, index))
    np.testing.assert_allclose(found.mean(), ndimage.mean(exact, labels, index))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_object_with_a_value_that_is_no_number_has_none(dtype: str) -> None:
    labels = np.array([[1, 1, 0, 2, 2]])
    image = np.array([[np.nan, 4, np.nan, 2, np.inf]], dtype)

    found = values_of(labels, image)

    for values in (found.lowest(), found.highest(), found.median(), found.mean()):
        assert np.isnan(values[0])
    assert (found.lowest()[1], found.highest()[1]) == (2, np.inf)


@given(label_masks(labels=range(4)))
def test_runs_put_back_are_the_labels(drawn: AnyArray) -> None:
    labels = np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape)

    runs = runs_of(labels)

    back = np.zeros_like(labels)
    for number, *others, first, last in zip(
        runs.own, *runs.others, runs.first, runs.last, strict=True
    ):
        assert not back[(*others, slice(first, last + 1))].any()
        back[(*others, slice(first, last + 1))] = number + 1
    np.testing.assert_array_equal(back, labels)
    assert runs.sizes.tolist() == np.bincount(labels.ravel(), minlength=1)[1:].tolist()


@pytest.mark.parametrize("shape", [(9, 11), (4, 9, 11)])
def test_middles_are_those_of_scipy(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 5, shape)

    found = runs_of(labels).centroids()

    wanted = ndimage.center_of_mass(np.ones(shape), labels, np.arange(1, 5))
    np.testing.assert_allclose(np.stack(found, axis=1), wanted)


def test_runs_end_at_the_end_of_a_row_though_the_label_goes_on() -> None:
    runs = runs_of(np.array([[0, 1], [1, 1], [1, 0]]))

    assert list(zip(runs.others[0], runs.first, runs.last, strict=True)) == [
        (0, 1, 1),
        (1, 0, 1),
        (2, 0, 0),
    ]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**32 - 1))
def test_shapes_hang_on_no_place_however_far_from_the_corner(dy: int, dx: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((5, 6)) > 0.4
    pixels[2, 2] = True
    near = runs_of(pixels.astype(np.int32))
    far = Runs(near.own, (near.others[0] + dy,), near.first + dx, near.last + dx, near.count)

    moments, moved = near.second_moments(), far.second_moments()

    assert [part.tolist() for part in moved] == [part.tolist() for part in moments]
    assert convex_areas(far).tolist() == convex_areas(near).tolist()


def test_spreads_of_a_bar_and_a_diagonal_are_known() -> None:
    labels = np.zeros((6, 9), np.int32)
    labels[0, 1:6] = 1  # x from -2 to 2: (4 + 1 + 0 + 1 + 4) / 5
    labels[[2, 3, 4], [1, 2, 3]] = 2  # y = x, from -1 to 1: 2 / 3 each, and together

    yy, xx, yx = runs_of(labels).second_moments()

    assert yy.tolist() == [0, pytest.approx(2 / 3)]
    assert xx.tolist() == [2, pytest.approx(2 / 3)]
    assert yx.tolist() == [0, pytest.approx(2 / 3)]


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "float32"])
def test_ranks_are_right_at_the_ends_of_a_dtype(dtype: str) -> None:
    ends = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    image: AnyArray = np.array([[ends.max, ends.min, 0, 1, ends.max, ends.max]], dtype)
    labels = np.array([[1, 1, 1, 2, 2, 3]])

    found = values_of(labels, image)

    low, high = float(ends.min), float(ends.max)
    assert found.lowest().tolist() == [low, 1, high]
    assert found.highest().tolist() == [high, high, high]
    assert found.median().tolist() == [0, 0.5 + high / 2, high]


def test_zeros_of_both_signs_and_infinities_keep_their_order() -> None:
    image = np.array([[-np.inf, -0.0, 0.0, np.inf, -1e-45]], np.float32)

    found = values_of(np.ones((1, 5), np.int32), image)

    assert (found.lowest().tolist(), found.highest().tolist()) == ([-np.inf], [np.inf])
    assert found.median().tolist() == [0]


@given(label_masks(labels=range(5)))
def test_the_border_of_any_objects_is_as_long_as_scikit_image_says(drawn: AnyArray) -> None:
    plane = drawn.reshape(-1, drawn.shape[-1])
    labels = np.unique(np.append(0, plane), return_inverse=True)[1][1:].reshape(plane.shape)
    count = int(labels.max())
    wanted = [perimeter(labels == number, 4) for number in range(1, count + 1)]

    found = perimeters(labels.astype(np.int32), count)

    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_square_and_a_disc_have_the_circularity_that_they_should() -> None:
    y, x = np.mgrid[:80, :160]
    labels = np.where(np.hypot(y - 40, x - 40) < 30, 1, 0)
    labels[10:60, 100:150] = 2

    table = measure_objects(
        Pixels(labels, ("y", "x"), {"y": 0.5, "x": 0.5}), Pixels(labels, ("y", "x"))
    )

    assert table["perimeter_px"][1] == 4 * 49  # through the middles of the pixels
    assert table["perimeter_um"].tolist() == (table["perimeter_px"] / 2).tolist()
    assert table["circularity"] == pytest.approx([1, math.pi / 4], rel=0.08)  # estimates


def test_borders_are_not_measured_where_pixels_are_not_square() -> None:
    pixels = np.ones((5, 5), np.int32)

    for um in ({"y": 0.5, "x": 0.2}, {"x": 0.2}):
        table = measure_objects(Pixels(pixels, ("y", "x"), um), Pixels(pixels, ("y", "x")))

        assert not {"perimeter_px", "perimeter_um", "circularity"} & set(table)
