"""The recipe ``flows`` in stacks, and with Omnipose's maps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.process.ideal_maps import cells

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.blocks import BlockWork, label_blocks
from bmz.process.flows import FlowSettings, follow_flow, label_flows
from bmz.process.heat import flows_of_labels
from bmz.process.matching import match_labels
from bmz.process.omnipose import SpeedsUnclear, cells_of, speeds_of, speeds_of_whole_map
from bmz.process.recipe import Place
from bmz.process.recipes import RECIPES
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

    found = label_flows(stack_map(truth), (1, 1, 1), FlowSettings()).labels

    np.testing.assert_array_equal(found, truth)


def test_labels_of_a_stack_lie_on_the_grid_of_the_input() -> None:
    found = label_flows(stack_map(balls()), (1, 2, 2), FlowSettings()).labels

    assert found.shape == (24, 80, 80)
    assert found.max() == 2


def noisy_flow(seed: int, shape: tuple[int, ...] = (9, 12, 13)) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((3, *shape)), (0, 1, 1, 1))
    return (noise / noise.std()).astype(np.float32), rng.random(shape) > 0.4


@pytest.mark.parametrize("steps", [1, 2, 5, 60])
def test_voxels_drift_as_with_the_interpolation_of_scipy(steps: int) -> None:
    flow, cell = noisy_flow(steps)
    place = np.stack(np.nonzero(cell)).astype(np.float64)
    size = np.array(cell.shape)[:, None]
    for _ in range(steps):
        read_at = place * size / (size - 1) - 0.5
        moves = [
            ndimage.map_coordinates(part * cell, read_at, order=1, mode="grid-constant")
            for part in flow
        ]
        place = np.clip(place + moves, 0, size - 1)

    ends = follow_flow(flow, cell, steps)

    # where a way ends between two voxels, rounding decides; a few voxels run apart for good
    near = np.abs(ends - place.astype(np.intp)).max(axis=0) <= 1
    assert near.mean() > 0.97


@pytest.mark.parametrize("steps", [1, 7, 200, 201])
def test_voxels_end_where_pytorch_leads_them(steps: int) -> None:
    torch = pytest.importorskip("torch")
    flow, cell = noisy_flow(steps)
    reach = torch.tensor(cell.shape[::-1], dtype=torch.float32) - 1
    field = (
        torch.from_numpy((flow * cell)[::-1].copy())[None] * (2 / reach)[None, :, None, None, None]
    )
    place = torch.from_numpy(np.stack(np.nonzero(cell)[::-1], axis=1)).float() / reach * 2 - 1
    for _ in range(steps):
        move = torch.nn.functional.grid_sample(field, place[None, None, None], align_corners=False)
        place = torch.clamp(place + move[0, :, 0, 0].T, -1, 1)
    wanted = ((place + 1) * 0.5 * reach).numpy().astype(np.intp).T[::-1]

    ends = follow_flow(flow, cell, steps)

    np.testing.assert_array_equal(ends, wanted)


def test_voxels_of_a_part_drift_as_in_the_whole_stack() -> None:
    flow, cell = noisy_flow(3, (9, 30, 40))
    cell[:, :8] = cell[:, 22:] = cell[:, :, :8] = cell[:, :, 32:] = False
    part = np.s_[:, 4:26, 5:36]
    origin = np.array([[0], [4], [5]])

    ends = follow_flow(flow[:, *part], cell[part], 150, Place((0, 4, 5), cell.shape))

    np.testing.assert_array_equal(ends + origin, follow_flow(flow, cell, 150))
    assert (follow_flow(flow[:, *part], cell[part], 150) + origin != ends + origin).any()


def test_a_stack_of_one_plane_is_followed_within_it() -> None:
    truth = balls()[12:13]

    found = label_flows(stack_map(truth), (1, 1, 1), FlowSettings()).labels

    np.testing.assert_array_equal(found > 0, truth > 0)


def test_cells_of_a_stack_are_those_of_cellpose(shared: Path) -> None:
    torch = pytest.importorskip("torch")
    dynamics = pytest.importorskip("cellpose.dynamics")
    mask = tifffile.imread(shared / "data/stardist/mask3d.tif").astype(np.int32)
    truth = in_raster_order(mask).labels
    output = ndimage.gaussian_filter(stack_map(truth), (0, 1, 1, 1))
    rng = np.random.default_rng(0)
    output += 2 * rng.standard_normal(output.shape).astype(np.float32)
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

    found = label_flows(output, (1, 1, 1), FlowSettings()).labels

    assert match_labels(found, reference, 0.9).f1 >= 0.99
    assert reference.max() >= 45


def omnipose_map(labels: LabelArray) -> FloatArray:
    """Flows away from the edge, the distance to it, -5 outside as it is trained, and the edge."""
    padded = np.pad(labels, 1)
    distance = np.full(labels.shape, -5, np.float32)
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

    found = label_flows(output, (1, 1), FlowSettings()).labels
    cut = label_flows(output[:3], (1, 1), FlowSettings(flow_threshold=0.0)).labels

    assert match_labels(found, rods(), 0.9).f1 == 1
    assert cut.max() > 3


def test_the_style_can_be_told() -> None:
    output = omnipose_map(rods())[:3]

    found = label_flows(output, (1, 1), FlowSettings(style="omnipose")).labels

    assert found.max() == 3


def test_round_cells_are_the_same_in_both_styles() -> None:
    truth = cells(3)
    flows = np.concatenate([5 * flows_of_labels(truth), np.where(truth > 0, 6, -6)[None]])

    round_ = label_flows(flows.astype(np.float32), (1, 1), FlowSettings()).labels
    skeletons = label_flows(omnipose_map(truth), (1, 1), FlowSettings()).labels

    assert match_labels(round_, skeletons, 0.8).f1 >= 0.9


def test_a_stack_without_cells_has_no_labels() -> None:
    output = np.full((4, 3, 5, 6), -6, np.float32)

    assert label_flows(output, (1, 1, 1), FlowSettings()).labels.max() == 0
    assert label_flows(output[:, 0, :, :], (1, 1), FlowSettings()).labels.max() == 0


def bacteria(seed: int, side: int, count: int) -> LabelArray:
    """Draw bent rods, 10 px wide and up to 120 px long, some of which touch."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    for number in range(1, count + 1):
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.015, 0.015)
        place, line = rng.uniform(10, side - 10, 2), np.ones((side, side), np.bool_)
        for _ in range(int(rng.uniform(40, 120))):
            at = np.rint(place).astype(int)
            if (at < 0).any() or (at >= side).any():
                break
            line[tuple(at)] = False
            place, angle = place + np.array([np.sin(angle), np.cos(angle)]), angle + bend
        rod = ndimage.distance_transform_edt(line) <= 5
        if not line.all() and not (labels[ndimage.binary_erosion(rod)] > 0).any():
            labels[rod & (labels == 0)] = number
    return in_raster_order(labels).labels


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_long_bacteria_come_back_whole_and_in_blocks(noise: float) -> None:
    truth = bacteria(1, 400, 70)
    maps = omnipose_map(truth)
    rng = np.random.default_rng(0)
    maps[:2] += 5 * noise * rng.normal(0, 1, maps[:2].shape)
    maps[2] += noise * rng.normal(0, 1, truth.shape) * (truth > 0)
    flows = RECIPES["flows"]
    parameters = flows.parameters_from({}, {})
    in_blocks = np.zeros(truth.shape, np.uint32)

    whole = flows.apply(maps, (1, 1), parameters).labels
    found = label_blocks(BlockWork(maps, (1, 1), flows, parameters, 128, 32), in_blocks)

    assert truth.max() >= 15
    assert match_labels(whole, truth, 0.5).f1 >= 0.95
    np.testing.assert_array_equal(found.numbers()[in_blocks], whole)


def test_how_fast_pixels_move_is_told_by_the_whole_map_and_not_by_a_block() -> None:
    truth = np.zeros((100, 1200), np.int32)
    truth[10:90, 5:85] = 1
    truth[50:56, 120:190] = 2
    maps = omnipose_map(truth)
    flows = RECIPES["flows"]
    parameters = flows.parameters_from({}, {})

    told = speeds_of_whole_map(maps, parameters)

    low, high = map(float, str(told["speeds"]).split(","))
    assert (low, high) == speeds_of(maps, 0.0)
    assert -2 <= low < 0 < high <= 2
    assert speeds_of_whole_map(maps, {**parameters, "speeds": "-1,1"}) == {}
    assert speeds_of_whole_map(maps[:3], parameters) == {}
    with pytest.raises(SpeedsUnclear, match=r"two numbers, low,high"):
        label_flows(maps, (1, 1), FlowSettings(speeds="fast"))


def test_a_cell_of_omnipose_goes_on_to_where_its_distance_is_a_little_below_the_least() -> None:
    distance = np.array([[-5, -0.5, 0.5, -0.9, -1.1, -0.5, -5]])

    assert cells_of(distance, 0.0).tolist() == [[False, True, True, True, False, False, False]]


def test_blurred_maps_of_omnipose_give_cells_of_their_whole_width() -> None:
    truth = cells(3)
    maps = omnipose_map(truth)
    blurred = np.stack([ndimage.gaussian_filter(part, 1) for part in maps])

    found = label_flows(blurred, (1, 1), FlowSettings()).labels

    assert match_labels(found, truth, 0.8).f1 >= 0.95
