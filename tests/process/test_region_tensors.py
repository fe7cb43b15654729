"""Regions found on tensors are those of arrays, bit by bit; here the tensors lie on a CPU."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from bmz.base.arrays import FloatArray, LeftToProcessor, TensorPlace
from bmz.process.boundary import BoundarySettings, label_cells
from bmz.process.components import (
    ArgmaxSettings,
    ComponentSettings,
    label_classes,
    label_components,
)
from bmz.process.recipe import Labelled
from bmz.process.region_tensors import (
    connected,
    label_cells_there,
    label_classes_there,
    label_components_there,
)
from bmz.process.relabel import ChannelsDiffer, in_raster_order

torch: Any = pytest.importorskip("torch")

THERE = TensorPlace(torch, "cpu")
SHAPES = ((1, 1), (60, 71), (5, 20, 21), (1, 300), (300, 1), (0, 4))


def maps(shape: tuple[int, ...], channels: int, sigma: float) -> FloatArray:
    noise = np.random.default_rng(channels).normal(size=(channels, *shape))
    smooth = [
        ndimage.gaussian_filter(channel, sigma) if channel.size else channel for channel in noise
    ]
    output = np.stack(smooth).astype(np.float32)
    output /= max(float(output.std() if output.size else 1), 1e-9)
    if output.size:
        output.reshape(-1)[:2] = np.nan, 0.1
    return output


def assert_same(found: Labelled, expected: Labelled) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.labels.dtype == expected.labels.dtype
    assert (found.classes, found.scores) == (expected.classes, expected.scores)


@pytest.mark.parametrize("shape", SHAPES)
def test_components_are_the_same(shape: tuple[int, ...]) -> None:
    for sigma, diagonal, threshold in product((0, 2.5), (True, False), (0.1, 0.5)):
        output, grid = maps(shape, 2, sigma), (2,) * len(shape)
        options = ComponentSettings(threshold=threshold, channel=1, diagonal=diagonal)

        expected = label_components(output, grid, options)

        assert_same(label_components_there(THERE, output, grid, options), expected)
        assert_same(label_components_there(THERE, THERE.put(output), grid, options), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_classes_are_the_same(shape: tuple[int, ...]) -> None:
    for background, instances, diagonal in product((-1, 0, 2), (True, False), (True, False)):
        output, grid = np.round(maps(shape, 3, 1)), (1,) * len(shape)  # rounded: with ties
        options = ArgmaxSettings(background=background, instances=instances, diagonal=diagonal)

        expected = label_classes(output, grid, options)

        assert_same(label_classes_there(THERE, output, grid, options), expected)


CHANNELS: tuple[tuple[int, dict[str, Any]], ...] = (
    (2, {}),
    (3, {"foreground_channel": 0, "boundary_channel": 1, "background_channel": 2}),
    (2, {"foreground_channel": -1, "boundary_channel": 0, "background_channel": 1}),
    (1, {"seed_distance": 0.0}),
)


@pytest.mark.parametrize(("channels", "options"), CHANNELS)
def test_cells_between_boundaries_are_the_same(channels: int, options: dict[str, Any]) -> None:
    for shape, sigma, smallest in product(((40, 51), (4, 20, 21)), (0.7, 2), (0, 15)):
        output = 1 / (1 + np.exp(-6 * maps(shape, channels, sigma)))
        if channels == 2:
            output[1] = np.where(output[0] > 0.2, 1 - output[0], output[1])  # some are shares
        grid, asked = (
            (1 + smallest % 2,) * len(shape),
            BoundarySettings(min_size=smallest, **options),
        )

        expected = label_cells(output, grid, asked)

        assert_same(label_cells_there(THERE, output, grid, asked), expected)


def test_seeds_that_keep_a_distance_are_left_to_the_arrays() -> None:
    for channels, distance in ((1, -1.0), (2, 5.0)):
        asked = BoundarySettings(seed_distance=distance)
        with pytest.raises(LeftToProcessor, match="keep a distance"):
            label_cells_there(THERE, maps((9, 9), channels, 1), (1, 1), asked)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_regions_of_any_values_are_those_of_scikit_image(
    seed: int, height: int, width: int, diagonal: bool
) -> None:
    values = np.random.default_rng(seed).integers(0, 3, (2, height, width)).astype(np.int32)

    found = connected(THERE, THERE.put(values), diagonal=diagonal).numpy()

    regions = label(values, background=0, connectivity=3 if diagonal else 1)
    expected = in_raster_order(regions).labels
    np.testing.assert_array_equal(found, expected)


def test_a_spiral_of_one_pixel_is_one_region() -> None:
    # each arm meets the next at its end alone, so that numbers must travel all the way
    spiral, at, step = np.zeros((41, 41), bool), np.array([0, 0]), np.array([0, 1])
    for length in [40, *(n for n in range(40, 0, -2) for _ in range(2))]:
        for _ in range(length):
            spiral[tuple(at)] = True
            at = at + step
        step = np.array([step[1], -step[0]])

    regions = connected(THERE, torch.from_numpy(spiral), diagonal=False)

    np.testing.assert_array_equal(regions.numpy(), label(spiral, connectivity=1))


def test_what_the_arrays_refuse_is_refused_and_other_dtypes_are_left_to_them() -> None:
    output = maps((9, 9), 2, 1)

    with pytest.raises(ChannelsDiffer):
        label_components_there(THERE, output, (1, 1), ComponentSettings(channel=2))
    with pytest.raises(ChannelsDiffer):
        label_classes_there(THERE, output, (1, 1), ArgmaxSettings(background=2))
    with pytest.raises(LeftToProcessor, match="holds uint8"):
        label_components_there(THERE, np.ones((1, 9, 9), np.uint8), (1, 1), ComponentSettings())
