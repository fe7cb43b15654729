"""Pixels drift along the flow, and those that meet are one cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import disk

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.flows import (
    FLOWS,
    FlowSettings,
    follow_flow,
    label_flows,
)
from bmz.process.heat import flow_errors, flows_of_labels
from bmz.process.matching import match_labels
from bmz.process.relabel import ChannelsDiffer, DimensionsNotDone, fill_holes, in_raster_order

SEEDS = st.integers(0, 2**32 - 1)


def discs(*circles: tuple[float, float, float], side: int = 60) -> LabelArray:
    labels = np.zeros((side, side), np.int32)
    for number, (y, x, radius) in enumerate(circles, start=1):
        labels[disk((y, x), radius, shape=labels.shape)] = number
    return labels


TWO = discs((18, 20, 11), (40, 38, 14))


def map_of(labels: LabelArray) -> FloatArray:
    """Give the output of a network that sees exactly these objects."""
    logit = np.where(labels > 0, np.float32(6), np.float32(-6))
    return np.concatenate([5 * flows_of_labels(labels), logit[None]])


def test_the_flow_of_a_disc_points_to_its_centre() -> None:
    labels = discs((30, 28, 12))

    flow = flows_of_labels(labels)

    y, x = np.nonzero(labels)
    inward = np.stack([30 - y, 28 - x]) / np.maximum(np.hypot(30 - y, 28 - x), 1)
    along = (inward * flow[:, y, x]).sum(axis=0)
    assert np.all(along[np.hypot(30 - y, 28 - x) > 2] > 0.97)
    assert np.all(flow[:, labels == 0] == 0)


def one_diffused(labels: LabelArray, number: int) -> FloatArray:
    """Diffuse one object alone, in double precision, as the paper words it."""
    inside = np.pad(labels == number, 1)
    y, x = np.nonzero(inside)
    nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
    heat = np.zeros(inside.shape)
    for _ in range(2 * (np.ptp(y) + np.ptp(x) + 2 + 4)):
        heat[y[nearest], x[nearest]] += 1
        heat = ndimage.uniform_filter(heat, 3, mode="constant") * inside
    rise = np.stack([heat[y + 1, x] - heat[y - 1, x], heat[y, x + 1] - heat[y, x - 1]])
    length = np.linalg.norm(rise, axis=0)
    return rise / np.where(length == 0, 1, length)


def test_objects_of_many_sizes_flow_together_as_each_would_alone() -> None:
    labels = discs((8, 9, 3), (12, 30, 9), (40, 15, 12), (42, 42, 15), (42, 57, 9), (3, 3, 1))

    flow = flows_of_labels(labels)

    for number in range(1, labels.max() + 1):
        alone = one_diffused(labels, number)
        apart = np.linalg.norm(flow[:, labels == number] - alone, axis=0)
        assert np.count_nonzero(apart > 1e-3) <= 2  # where nothing rises, rounding decides


def test_the_error_of_an_objects_own_flow_is_0_and_of_the_opposite_4() -> None:
    flow = flows_of_labels(TWO)
    flow[:, TWO == 2] *= -1

    errors = flow_errors(TWO, flow)

    assert errors.tolist() == pytest.approx([0, 4], abs=0.05)


def step_by_step(flow: FloatArray, cell: BoolArray, steps: int) -> FloatArray:
    """Follow every pixel for all steps, with the interpolation of SciPy."""
    field = (flow * cell).astype(np.float64)
    places = np.stack(np.nonzero(cell)).astype(np.float64)
    for _ in range(steps):
        drift = [ndimage.map_coordinates(f, places, order=1, mode="nearest") for f in field]
        places = np.clip(places + drift, 0, np.array(cell.shape)[:, None] - 1)
    return places


@given(seed=SEEDS, steps=st.integers(0, 6))
def test_a_few_steps_lead_where_single_steps_lead(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    flow = rng.normal(0, 0.7, (2, 9, 13)).astype(np.float32)
    cell = rng.random((9, 13)) < 0.7

    ends = follow_flow(flow, cell, steps)

    expected = step_by_step(flow, cell, steps)
    clear = np.abs(expected - np.rint(expected)).min(axis=0) > 1e-3  # not on the edge of a pixel
    assert ends.shape == expected.shape
    assert np.array_equal(ends[:, clear], expected[:, clear].astype(int))


@given(seed=SEEDS, steps=st.integers(0, 120), together=st.integers(1, 700))
def test_pixels_that_came_to_rest_end_as_if_followed_to_the_end(
    seed: int, steps: int, together: int
) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.4, (2, *TWO.shape)).astype(np.float32)
    flow, cell = flows_of_labels(TWO) + noise, TWO > 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bmz.process.flows.PIXELS_AT_ONCE", together)
        ends = follow_flow(flow, cell, steps)
        patch.setattr("bmz.process.flows.STEPS_A_ROUND", steps + 1)
        assert np.array_equal(ends, follow_flow(flow, cell, steps))


@pytest.mark.parametrize("steps", [4, 5, 600, 601, 602])
def test_a_pixel_that_swings_between_two_places_ends_by_the_number_of_steps(steps: int) -> None:
    flow = np.zeros((2, 1, 4), np.float32)
    flow[1] = [1, 1, -1, -1]

    ends = follow_flow(flow, np.ones((1, 4), np.bool_), steps)

    assert np.array_equal(ends, step_by_step(flow, np.ones((1, 4), np.bool_), steps).astype(int))


@given(SEEDS)
def test_holes_are_filled_as_scipy_fills_those_of_single_objects(seed: int) -> None:
    mask = np.random.default_rng(seed).random((8, 9)) < 0.6
    labels = np.where(mask, 3, 0)

    filled = fill_holes(labels)

    assert np.array_equal(filled == 3, ndimage.binary_fill_holes(mask))


def test_an_object_in_a_hole_of_another_becomes_part_of_it() -> None:
    labels = np.ones((7, 7), np.int32)
    labels[2:5, 2:5] = 0
    labels[3, 3] = 2

    filled = fill_holes(labels)

    assert np.all(filled == 1)


def test_cells_come_back_from_their_own_flows() -> None:
    done = label_flows(map_of(TWO), (1, 1), FlowSettings())

    assert np.array_equal(done.labels, in_raster_order(TWO).labels)
    assert done.scores is None


def test_a_cell_whose_flow_turns_away_is_removed_unless_nothing_is_checked() -> None:
    output = map_of(discs((18, 20, 11), (40, 40, 12)))
    output[:2, 34:, 34:] += np.random.default_rng(1).normal(0, 6, (2, 26, 26))

    checked = label_flows(output, (1, 1), FlowSettings()).labels.max()
    unchecked = label_flows(output, (1, 1), FlowSettings(flow_threshold=0.0)).labels

    assert checked == 1
    assert unchecked.max() > 1
    assert unchecked[40, 40] > 0


@pytest.mark.parametrize(("least", "cells"), [(0, 2), (380, 1), (700, 0)])
def test_small_cells_are_removed(least: int, cells: int) -> None:
    done = label_flows(map_of(TWO), (1, 1), FlowSettings(min_size=least))

    assert done.labels.max() == cells


@pytest.mark.parametrize(("share", "cells"), [(0.4, 2), (0.15, 1), (0.01, 0)])
def test_large_cells_are_removed(share: float, cells: int) -> None:
    done = label_flows(map_of(TWO), (1, 1), FlowSettings(max_size_fraction=share))

    assert done.labels.max() == cells


def test_only_pixels_above_the_cell_probability_are_cells() -> None:
    output = map_of(TWO)
    output[2, TWO == 1] = 1

    done = label_flows(output, (1, 1), FlowSettings(cellprob_threshold=1.0))

    assert np.array_equal(done.labels > 0, TWO == 2)


def test_a_coarse_map_is_repeated_to_the_grid_of_the_input() -> None:
    fine = label_flows(map_of(TWO), (2, 3), FlowSettings()).labels

    assert np.array_equal(
        fine, label_flows(map_of(TWO), (1, 1), FlowSettings()).labels.repeat(2, 0).repeat(3, 1)
    )


@pytest.mark.parametrize("value", [0.0, -1.0, 1.0, 1e38, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (12, 9)])
def test_a_map_of_one_value_gives_labels_without_a_warning(
    value: float, shape: tuple[int, int]
) -> None:
    output = np.full((3, *shape), value, np.float32)

    done = label_flows(output, (1, 1), FlowSettings())

    assert done.labels.shape == shape
    assert done.labels.max() <= 1


def test_a_flow_that_is_no_number_keeps_its_pixel_where_it_is() -> None:
    output = map_of(TWO)
    output[:2, 18, 9] = np.nan

    done = label_flows(output, (1, 1), FlowSettings())

    assert match_labels(done.labels, TWO, 0.95).tp == 2


@given(SEEDS)
def test_noise_gives_labels_in_raster_order(seed: int) -> None:
    output = np.random.default_rng(seed).normal(0, 6, (3, 24, 31)).astype(np.float32)

    labels = label_flows(output, (1, 1), FlowSettings(flow_threshold=0.0, min_size=0)).labels

    assert np.array_equal(labels, in_raster_order(labels).labels)


def test_more_axes_than_a_stack_are_refused() -> None:
    with pytest.raises(DimensionsNotDone, match=r"\[recipe\.dimensions\]"):
        label_flows(np.zeros((5, 2, 5, 8, 8), np.float32), (1, 1, 1, 1), FlowSettings())


@pytest.mark.parametrize("channels", [2, 5])
def test_another_number_of_channels_is_refused(channels: int) -> None:
    with pytest.raises(ChannelsDiffer, match=f"has {channels} channels"):
        label_flows(np.zeros((channels, 8, 8), np.float32), (1, 1), FlowSettings())


def test_the_flow_recipe_names_the_parameters_it_takes() -> None:
    defaults = {name: FLOWS.parameters_from({}, {})[name] for name in FLOWS.own}

    assert FlowSettings(**defaults) == FlowSettings()  # type: ignore[arg-type]  # texts name values


@pytest.mark.parametrize(
    ("given", "steps"), [({}, 200), ({"diameter": 60.0}, 400), ({"niter": 7}, 7)]
)
def test_steps_grow_with_the_diameter_unless_they_are_given(
    given: dict[str, float], steps: int
) -> None:
    assert FlowSettings(**given).steps == steps  # type: ignore[arg-type]  # texts name values


def test_cells_of_the_membrane_image_are_those_of_cellpose(shared: Path) -> None:
    golden = shared / "golden"
    output = np.load(golden / "cellpose-cyto__membranes_nuclei-d60.network_output.npy")
    truth = tifffile.imread(golden / "cellpose-cyto__membranes_nuclei-d60.network_grid.labels.tif")

    done = label_flows(output, (1, 1), FlowSettings())

    assert done.labels.max() == 33
    assert match_labels(done.labels, truth, 0.95).ap == 1


def test_cells_of_the_cyto3_network_are_those_of_cellpose(shared: Path) -> None:
    folder = shared / "data/golden/cellpose-cyto3-img075"
    output, truth = np.load(folder / "output.npy"), np.load(folder / "masks.npy")

    done = label_flows(output[:, : len(truth)], (1, 1), FlowSettings())  # the rest is padding

    assert done.labels.max() == 162
    assert match_labels(done.labels, truth, 0.9).ap == 1
