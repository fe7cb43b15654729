"""What a page keeps of a map from one setting to the next changes no label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmz.base.arrays import FloatArray
from bmz.process.flows import FlowSettings, label_flows
from bmz.process.heat import flows_of_labels
from bmz.process.kept_flows import KeptFlows
from bmz.process.relabel import in_raster_order

SEEDS = st.integers(0, 2**32 - 1)


def noisy_map(rng: np.random.Generator, noise: float) -> FloatArray:
    """Give maps of blobs whose flows and probabilities are far from clean."""
    y, x = np.mgrid[:48, :57]
    middles = rng.random((9, 2)) * y.shape
    apart = np.hypot(y[..., None] - middles[:, 0], x[..., None] - middles[:, 1])
    labels = np.where(apart.min(-1) < 9, apart.argmin(-1) + 1, 0).astype(np.int32)
    flow = 5 * flows_of_labels(in_raster_order(labels).labels) + rng.normal(0, noise, (2, *y.shape))
    logit = 9 - apart.min(-1) + rng.normal(0, noise, y.shape)
    return np.concatenate([flow, logit[None]]).astype(np.float32)


@settings(max_examples=10)
@given(seed=SEEDS, noise=st.floats(0, 3), count=st.integers(2, 6))
def test_labels_after_any_moves_are_those_of_one_call(seed: int, noise: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    maps, kept = noisy_map(rng, noise), KeptFlows()
    some = np.unique(maps[2])  # thresholds that are values of pixels, too

    for _ in range(count):
        chosen = FlowSettings(
            cellprob_threshold=float(rng.choice([0, -1, 2, rng.choice(some)])),
            flow_threshold=float(rng.choice([0, 0.4, 1.0])),
            niter=int(rng.choice([0, 7])),
            min_size=int(rng.choice([0, 15, 60])),
            max_size_fraction=float(rng.choice([0.05, 0.4])),
        )
        labels = kept(maps, (1, 1), chosen).labels

        np.testing.assert_array_equal(labels, label_flows(maps, (1, 1), chosen).labels)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (4, 3, 8, 8)])
def test_maps_of_few_pixels_and_of_stacks_are_labelled_as_ever(shape: tuple[int, ...]) -> None:
    maps = np.random.default_rng(3).normal(0, 3, shape).astype(np.float32)
    chosen = FlowSettings(min_size=0)

    labels = KeptFlows()(maps, (1,) * (len(shape) - 1), chosen).labels

    expected = label_flows(maps, (1,) * (len(shape) - 1), chosen).labels
    np.testing.assert_array_equal(labels, expected)


def test_another_map_is_labelled_anew() -> None:
    rng, kept, chosen = np.random.default_rng(4), KeptFlows(), FlowSettings()
    first, second = noisy_map(rng, 0.5), noisy_map(rng, 0.5)
    kept(first, (1, 1), chosen)

    labels = kept(second, (1, 1), chosen).labels

    np.testing.assert_array_equal(labels, label_flows(second, (1, 1), chosen).labels)
