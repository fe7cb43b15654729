"""The recipe ``flows`` in stacks, and with Omnipose's maps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.process.ideal_maps import cells

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.flow_error import flows_of_labels
from bmz.process.flow_following import follow_flow
from bmz.process.flows import label_flows
from bmz.process.matching import match_labels
from bmz.process.relabel import in_raster_order


def balls() -> LabelArray:
    labels = np.zeros((24, 40, 40), np.int32)
    place = np.indices(labels.shape)
    for number, (z, y, x, radius) in enumerate([(10, 12, 12, 8), (12, 26, 26, 9)], start=1):
        away = np.square(place - np.reshape([z, y, x], (3, 1, 1, 1))).sum(axis=0)
        labels[(away <= radius**2) & (labels == 0)] = number
    return labels


def towards_centres(labels: LabelArray) -> FloatArray:
    """Give the unit vectors to the mean place of each object."""
    flow = np.zeros((labels.ndim, *labels.shape), np.float32)
    for number in range(1, labels.max() + 1):
        place = np.stack(np.nonzero(labels == number)).astype(np.float32)
        way = place.mean(axis=1, keepdims=True) - place
        flow[:, labels == number] = way / np.maximum(np.sqrt(np.square(way).sum(axis=0)), 1)
    return flow


def stack_map(labels: LabelArray) -> FloatArray:
    logit = np.where(labels > 0, np.float32(6), np.float32(-6))
    return np.concatenate([5 * towards_centres(labels), logit[None]])


def test_balls_of_a_stack_are_found() -> None:
    truth = balls()

    found = label_flows(stack_map(truth), (1, 1, 1)).labels

    np.testing.assert_array_equal(found, truth)


def test_labels_of_a_stack_lie_on_the_grid_of_the_input() -> None:
    found = label_flows(stack_map(balls()), (1, 2, 2)).labels

    assert found.shape == (24, 80, 80)
    assert found.max() == 2


@pytest.mark.parametrize("steps", [1, 2, 5, 60])
def test_voxels_drift_as_with_the_interpolation_of_scipy(steps: int) -> None:
    rng = np.random.default_rng(steps)
    noise = ndimage.gaussian_filter(rng.standard_normal((3, 9, 12, 13)), (0, 1, 1, 1))
    flow = (noise / noise.std()).astype(np.float32)
    cell = rng.random((9, 12, 13)) > 0.4
    place = np.stack(np.nonzero(cell)).astype(np.float64)
    high = np.array(cell.shape)[:, None] - 1
    for _ in range(steps):
        moves = [ndimage.map_coordinates(part * cell, place, order=1) for part in flow]
        place = np.clip(place + moves, 0, high)

    ends = follow_flow(flow, cell, steps)

    # where a way ends between two voxels, rounding decides; a few voxels run apart for good
    near = np.abs(ends - place.astype(np.intp)).max(axis=0) <= 1
    assert near.mean() > 0.97


def test_cells_of_a_stack_are_those_of_cellpose(shared: Path) -> None:
    torch = pytest.importorskip("torch")
    dynamics = pytest.importorskip("cellpose.dynamics")
    mask = tifffile.imread(shared / "data/stardist/mask3d.tif").astype(np.int32)
    truth = in_raster_order(mask).labels
    output = stack_map(truth)
    rng = np.random.default_rng(0)
    output[:3] += 0.5 * rng.standard_normal(output[:3].shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own checks
        theirs = dynamics.compute_masks(
            output[:3],
            output[3],
            niter=200,
            cellprob_threshold=0.0,
            flow_threshold=0.4,
            do_3D=True,
            min_size=15,
            device=torch.device("cpu"),
        )
    reference = (theirs[0] if isinstance(theirs, tuple) else theirs).astype(np.int32)

    found = label_flows(output, (1, 1, 1)).labels

    assert match_labels(found, reference, 0.9).f1 >= 0.97
    assert reference.max() >= 45


def omnipose_map(labels: LabelArray) -> FloatArray:
    """Flows away from the edge, the distance to it, and the edge."""
    padded = np.pad(labels, 1)
    distance = np.zeros(labels.shape, np.float32)
    flow = np.zeros((2, *labels.shape), np.float32)
    for number in range(1, labels.max() + 1):
        depth = ndimage.distance_transform_edt(padded == number)[1:-1, 1:-1]
        smooth = ndimage.gaussian_filter(depth, 1)
        own = labels == number
        distance[own] = depth[own]
        for axis, part in enumerate(np.gradient(smooth)):
            flow[axis][own] = part[own]
    length = np.maximum(np.sqrt(np.square(flow).sum(axis=0)), 1e-6)
    edge = (distance > 0) & (distance <= 1)
    return np.concatenate([5 * flow / length, distance[None], edge[None]]).astype(np.float32)


def rods() -> LabelArray:
    labels = np.zeros((60, 80), np.int32)
    labels[8:20, 5:75] = 1
    labels[20:32, 5:75] = 2
    labels[40:52, 5:40] = 3
    return labels


def test_long_cells_of_omnipose_stay_whole_though_cellpose_would_cut_them() -> None:
    output = omnipose_map(rods())

    found = label_flows(output, (1, 1)).labels
    cut = label_flows(output[:3], (1, 1), flow_threshold=0.0).labels

    assert match_labels(found, rods(), 0.9).f1 == 1
    assert cut.max() > 3


def test_the_style_can_be_told() -> None:
    output = omnipose_map(rods())[:3]

    found = label_flows(output, (1, 1), style="omnipose").labels

    assert found.max() == 3


def test_round_cells_are_the_same_in_both_styles() -> None:
    truth = cells(3)
    flows = np.concatenate([5 * flows_of_labels(truth), np.where(truth > 0, 6, -6)[None]])

    round_ = label_flows(flows.astype(np.float32), (1, 1)).labels
    skeletons = label_flows(omnipose_map(truth), (1, 1)).labels

    assert match_labels(round_, skeletons, 0.8).f1 >= 0.9


def test_a_stack_without_cells_has_no_labels() -> None:
    output = np.full((4, 3, 5, 6), -6, np.float32)

    assert label_flows(output, (1, 1, 1)).labels.max() == 0
    assert label_flows(output[:, 0, :, :], (1, 1)).labels.max() == 0
