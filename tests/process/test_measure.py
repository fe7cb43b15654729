from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from tests.strategies import label_masks

from bmz.base.arrays import AnyArray
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.process.measure import measure_objects

PLANE_ONLY = {"axis_major_length_px", "eccentricity", "solidity", "orientation_rad"}


def array(pixels: AnyArray, axes: str, **um: float) -> Pixels:
    return Pixels(pixels, tuple(axes), um)


def rectangle(*shape: int) -> AnyArray:
    labels = np.zeros(shape, np.int32)
    labels[..., 2:6, 3:9] = 4
    return labels


def test_a_rectangle_measures_what_it_should() -> None:
    image = np.zeros((10, 12), np.uint16)
    image[2:6, 3:9] = 7
    image[2, 3] = 31

    table = measure_objects(array(rectangle(10, 12), "yx"), array(image, "yx"))

    row = {name: column.item() for name, column in table.items()}
    assert row.pop("label") == 4
    assert row["area_px"] == 24
    assert (row["centroid_y_px"], row["centroid_x_px"]) == (3.5, 5.5)
    assert row["equivalent_diameter_area_px"] == pytest.approx(math.sqrt(24 * 4 / math.pi))
    assert (row["solidity"], row["touches_border"]) == (1, False)
    assert [row[f"bbox_{e}_px"] for e in ("y_min", "x_min", "y_max", "x_max")] == [2, 3, 6, 9]
    assert (row["intensity_min"], row["intensity_max"], row["intensity_sum"]) == (7, 31, 192)
    assert row["intensity_mean"] == 8
    assert not [name for name in table if name.endswith(("_um", "_um2"))]


def test_lengths_in_um_stand_where_the_pixel_size_is_known() -> None:
    labels = array(rectangle(10, 12), "yx", y=0.5, x=0.25)

    table = measure_objects(labels, array(np.ones((10, 12)), "yx"))

    assert table["area_um2"].tolist() == [24 * 0.125]
    assert table["centroid_y_um"].tolist() == [1.75]
    assert table["centroid_x_um"].tolist() == [1.375]
    assert table["equivalent_diameter_area_um"][0] == pytest.approx(math.sqrt(3 * 4 / math.pi))
    # 4 rows of 0.5 um are longer than 6 columns of 0.25 um, which pixels alone do not show
    assert table["axis_major_length_um"][0] == pytest.approx(4 * 0.5 * math.sqrt((4**2 - 1) / 12))


def test_stacks_have_volumes_and_leave_out_what_planes_alone_have() -> None:
    labels = array(rectangle(3, 10, 12), "zyx", z=2.0, y=0.5, x=0.5)

    table = measure_objects(labels, array(np.ones((3, 10, 12)), "zyx"))

    assert table["volume_px"].tolist() == [72]
    assert table["volume_um3"].tolist() == [36]
    assert table["equivalent_diameter_area_um"][0] == pytest.approx((36 * 6 / math.pi) ** (1 / 3))
    assert table["centroid_z_um"].tolist() == [2]
    assert table["touches_border"].tolist() == [True]
    assert not PLANE_ONLY & table.keys()


def test_each_channel_is_measured_under_its_name() -> None:
    image = np.stack([np.full((10, 12), 2.0), np.full((10, 12), 5.0)])
    named = Pixels(image, ("c", "y", "x"), channel_names=("DAPI 405", "GFP"))

    table = measure_objects(array(rectangle(10, 12), "yx"), named)
    plain = measure_objects(array(rectangle(10, 12), "yx"), array(image, "cyx"))

    assert table["intensity_mean_DAPI_405"].tolist() == [2]
    assert table["intensity_sum_GFP"].tolist() == [120]
    assert plain["intensity_mean_c1"].tolist() == [5]


def test_channels_of_one_name_or_none_are_told_apart_and_others_keep_theirs() -> None:
    image = np.stack([np.full((10, 12), float(k)) for k in range(4)])
    named = Pixels(image, ("c", "y", "x"), channel_names=("DAPI", "GFP", "GFP", "/"))

    table = measure_objects(array(rectangle(10, 12), "yx"), named)

    told = {n.removeprefix("intensity_mean_"): c[0] for n, c in table.items() if "_mean_" in n}
    assert told == {"DAPI": 0, "GFP": 1, "GFP_c2": 2, "c3": 3}


def test_time_points_follow_each_other_with_scores_of_their_own() -> None:
    labels = np.zeros((3, 4, 4), int)
    labels[0, 0, 0], labels[2, 1, 1], labels[2, 3, 3] = 1, 1, 2

    table = measure_objects(
        array(labels, "tyx"),
        array(np.ones((3, 4, 4)), "tyx"),
        [{"score": np.array(some)} for some in ([0.9], [], [0.8, 0.7])],
    )

    assert list(table)[:2] == ["label", "t"]
    assert table["label"].tolist() == [1, 1, 2]
    assert table["t"].tolist() == [0, 2, 2]
    assert table["score"].tolist() == [0.9, 0.8, 0.7]


def test_labels_numbered_through_time_share_one_row_of_scores() -> None:
    labels = np.zeros((2, 4, 4), int)
    labels[0, 0, 0], labels[1, 1, 1], labels[1, 3, 3] = 1, 2, 3

    table = measure_objects(
        array(labels, "tyx"), array(np.ones((2, 4, 4)), "tyx"), {"score": np.array([0.9, 0.8, 0.7])}
    )

    assert table["t"].tolist() == [0, 1, 1]
    assert table["score"].tolist() == [0.9, 0.8, 0.7]


def test_the_score_of_a_label_is_found_by_its_number() -> None:
    labels = np.array([[1, 0, 3], [0, 0, 5]])
    known = {"score": np.array([0.1, 0.2, 0.3], np.float32), "class": np.array(["a", "b", "c"])}

    table = measure_objects(array(labels, "yx"), array(labels, "yx"), known)

    assert table["score"][:2] == pytest.approx([0.1, 0.3])
    assert np.isnan(table["score"][2])
    assert table["class"].tolist() == ["a", "c", ""]


def test_huge_label_numbers_cost_no_memory() -> None:
    labels = np.array([[0, 4_000_000_000], [7, 0]])

    table = measure_objects(
        array(labels, "yx"), array(labels, "yx"), {"score": np.array([0.5] * 7)}
    )

    assert table["label"].tolist() == [7, 4_000_000_000]
    assert table["score"][0] == 0.5
    assert np.isnan(table["score"][1])


def test_objects_at_the_border_are_marked() -> None:
    labels = np.zeros((9, 9), int)
    labels[0, 4], labels[4, 8], labels[4, 4] = 1, 2, 3

    table = measure_objects(array(labels, "yx"), array(labels, "yx"))

    assert table["touches_border"].tolist() == [True, True, False]


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5)])
def test_without_objects_there_are_columns_and_no_rows(shape: tuple[int, ...]) -> None:
    labels = array(np.zeros(shape, np.uint8), "zyx"[-len(shape) :], y=1.0, x=1.0)

    table = measure_objects(labels, labels, {"score": np.array([])})

    assert {len(column) for column in table.values()} == {0}
    assert {"label", "score", "intensity_mean"} <= table.keys()


@given(labels=label_masks(labels=range(5)))
def test_any_mask_is_measured_without_a_warning_and_sums_agree(labels: AnyArray) -> None:
    axes = "zyx"[-labels.ndim :]
    image = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)

    table = measure_objects(array(labels, axes, y=0.5, x=0.5), array(image, axes))

    present = np.unique(labels[labels > 0])
    size = table["area_px" if labels.ndim == 2 else "volume_px"]
    assert table["label"].tolist() == present.tolist()
    assert size.sum() == np.count_nonzero(labels)
    assert table["intensity_sum"] == pytest.approx(ndimage.sum_labels(image, labels, present))
    # a border of one pixel has no length, and no circularity
    assert all(np.isfinite(table[name]).all() for name in table if name != "circularity")


def test_a_grid_that_differs_is_refused() -> None:
    with pytest.raises(ValueError, match="labels are"):
        measure_objects(array(np.zeros((4, 5), int), "yx"), array(np.zeros((4, 6)), "yx"))


def test_real_nuclei_are_all_in_the_table(shared: Path) -> None:
    folder = shared / "data" / "stardist"
    labels = read_image(inspect_image(folder / "mask2d.tif"))

    table = measure_objects(labels, read_image(inspect_image(folder / "img2d.tif")))

    assert len(table["label"]) == 125
    assert table["label"].max() == 183
