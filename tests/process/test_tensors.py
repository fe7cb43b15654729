"""Labels made on tensors are those of arrays, bit by bit; here the tensors lie on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from bmz.base.arrays import FloatArray, LabelArray, LeftToProcessor, TensorPlace
from bmz.process.flows import FlowSettings, label_flows
from bmz.process.heat import flows_of_labels
from bmz.process.tensors import flows_of_labels_there, label_flows_there

torch: Any = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


THERE = TensorPlace(torch, "cpu")


def blobs(seed: int, shape: tuple[int, int] = (60, 71)) -> LabelArray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    labels, _ = ndimage.label(field > 0.4 * field.std())
    whole: LabelArray = labels.astype(np.int32)
    return whole


def maps(seed: int, noise: float = 0.5) -> FloatArray:
    rng, labels = np.random.default_rng(seed), blobs(seed)
    flow = 5 * flows_of_labels(labels) + rng.normal(0, noise, (2, *labels.shape))
    cell = np.where(labels > 0, 3, -3) + rng.normal(0, 1, labels.shape)
    return np.concatenate([flow, cell[None]]).astype(np.float32)


def test_flows_of_objects_are_the_same() -> None:
    touching = np.repeat(np.arange(1, 7, dtype=np.int32).reshape(2, 3), 9, axis=0).repeat(7, axis=1)
    for labels in (blobs(0), touching, np.zeros((5, 6), np.int32)):
        found = flows_of_labels_there(THERE, labels).numpy()

        np.testing.assert_array_equal(found, flows_of_labels(labels))


@pytest.mark.parametrize(
    "settings",
    [
        FlowSettings(flow_threshold=1.5, diameter=17),
        FlowSettings(niter=7, flow_threshold=0, min_size=0),
        FlowSettings(niter=12, flow_threshold=0.8, cellprob_threshold=-1),
    ],
    ids=["steps of the diameter", "7 steps", "12 steps"],
)
def test_masks_are_the_same(settings: FlowSettings) -> None:
    for seed in range(3):
        output = maps(seed)

        expected = label_flows(output, (1, 1), settings).labels

        assert expected.max() > 5
        found = label_flows_there(THERE, output, (1, 1), settings).labels
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_flows_that_are_no_numbers_and_coarse_maps_give_the_same() -> None:
    output = maps(3)
    output[0, 10:20, 10:20], output[1, 30, 40], output[0, 31, 41] = np.nan, np.inf, 1e30

    for cut in (output, np.full_like(output, -9), output.astype(np.float64)):
        expected = label_flows(cut, (2, 2), FlowSettings()).labels
        found = label_flows_there(THERE, cut, (2, 2), FlowSettings()).labels
        np.testing.assert_array_equal(found, expected)


def test_maps_of_omnipose_and_stacks_are_left_to_the_arrays() -> None:
    plane = maps(4)
    omnipose = np.concatenate([plane, plane[2:]])
    stack = np.stack([np.zeros_like(plane), plane], axis=1)
    stack = np.concatenate([stack, stack[2:]])

    for output in (omnipose, stack):
        grid = (1,) * (output.ndim - 1)
        with pytest.raises(LeftToProcessor, match="Cellpose flows in planes"):
            label_flows_there(THERE, output, grid, FlowSettings(niter=9))
