"""Seeds lie near the centre and far from the edge of their object."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.segmentation import watershed
from tests.process.ideal_maps import cells, distances_within, foreground

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.matching import match_labels
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer, in_raster_order

DISTANCES = RECIPES["distances"]


def maps_of(labels: LabelArray, noise: float = 0.0) -> FloatArray:
    maps = np.stack([foreground(labels), *distances_within(labels)])
    uneven = np.random.default_rng(3).normal(0, noise, maps.shape)
    clipped: FloatArray = np.clip(maps + uneven, 0, 1).astype(np.float32)
    return clipped


def labelled(maps: FloatArray, **words: str) -> Labelled:
    grid = (1,) * (maps.ndim - 1)
    return DISTANCES.apply(maps, grid, DISTANCES.parameters_from({}, words))


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_found_in_uncertain_maps(seed: int) -> None:
    truth = cells(seed, 180, 6)

    result = labelled(maps_of(truth, 0.15))

    assert match_labels(result.labels, truth, 0.5).f1 >= 0.95
    assert result.scores is not None
    assert len(result.scores) == result.labels.max()


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_those_of_the_steps_of_torch_em(seed: int) -> None:
    """The steps are those of torch-em 0.10.9, which gives these labels with bioimage-cpp 0.9.0."""
    maps = maps_of(cells(seed, 128, 5), 0.1)
    inside, centre, edge = (
        gaussian_filter(channel, sigma, mode="mirror", truncate=3)
        for channel, sigma in zip(maps, (1.0, 1.6, 1.6), strict=True)
    )
    mask = inside > 0.5
    seeds = label(mask & (centre < 0.5) & (edge < 0.5))
    wanted = in_raster_order(watershed(edge, seeds, mask=mask)).labels

    found = labelled(maps).labels

    np.testing.assert_array_equal(found > 0, wanted > 0)
    assert match_labels(found, wanted, 0.98).f1 == 1


def test_foreground_without_a_seed_is_no_object_and_small_ones_are_left_out() -> None:
    truth = cells(1, 96, 3)
    maps = maps_of(truth)
    maps[1, truth == 2] = 1

    result = labelled(maps)
    large = labelled(maps, min_size=str(int((truth == 1).sum()) + 1))

    assert not result.labels[truth == 2].any()
    assert result.labels.max() == truth.max() - 1
    assert large.labels.max() < result.labels.max()


def test_maps_without_three_channels_are_refused() -> None:
    with pytest.raises(ChannelsDiffer):
        labelled(np.zeros((2, 20, 20), np.float32))


def test_what_is_no_number_is_background() -> None:
    truth = cells(1, 96, 3)
    maps = maps_of(truth)
    maps[:, :20] = np.nan

    assert not labelled(maps).labels[:15].any()
