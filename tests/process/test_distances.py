"""Seeds lie near the centre and far from the edge of their object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as components
from skimage.measure import label
from skimage.segmentation import watershed
from tests.process.ideal_maps import cells, distances_within, foreground

import bmz
from bmz.base.arrays import FloatArray, LabelArray
from bmz.base.axes import Step
from bmz.base.errors import BmzError
from bmz.process.matching import match_labels
from bmz.process.ops import apply_steps
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer, in_raster_order
from bmz.testing.package import description, write_package

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


def by_scipy(maps: FloatArray, min_size: int) -> LabelArray:
    """Do what ``MicroSamWatershed`` of bioimageio.core says, step by step."""
    inside, centre, edge = (
        gaussian_filter(channel, sigma)
        for channel, sigma in zip(maps, (1.0, 1.6, 1.6), strict=True)
    )
    mask = inside > 0.5
    seeds, _ = components((centre < 0.4) & (edge < 0.5) & mask)
    flooded: LabelArray = watershed(edge, seeds, mask=mask)
    small = np.flatnonzero(np.bincount(flooded.ravel()) < min_size)
    flooded[np.isin(flooded, small)] = 0
    return flooded


@pytest.mark.parametrize("axes", ["bcyx", "yxc"])
def test_the_declared_step_gives_the_numbers_of_bioimageio_core(axes: str) -> None:
    maps = maps_of(cells(2, 128, 5), 0.1)
    arguments = {"center_distance_threshold": 0.4, "min_size": 300}
    x = maps[None] if axes == "bcyx" else np.moveaxis(maps, 0, -1)

    labels, left = apply_steps([Step("microsam_watershed", arguments)], x, axes)

    plane = labels[0, 0] if axes == "bcyx" else labels[..., 0]
    wanted = by_scipy(maps, 300)
    assert (left, labels.dtype) == (axes, np.dtype("uint16"))
    assert len(np.unique(wanted)) - 1 < wanted.max()
    np.testing.assert_array_equal(plane, wanted)


@pytest.mark.parametrize(
    ("arguments", "channels", "code"),
    [
        ({}, 2, "process.not-one-per-entry"),
        ({"output_dtype": "uint8"}, 3, "process.labels-overflow"),
        ({"sharpness": 2}, 3, "process.arguments"),
    ],
)
def test_a_declared_step_that_does_not_suit_its_maps_is_refused(
    arguments: dict[str, Any], channels: int, code: str
) -> None:
    maps = maps_of(cells(2, 255, 17))[:channels]

    with pytest.raises(BmzError) as caught:
        apply_steps([Step("microsam_watershed", arguments)], maps, "cyx")

    assert caught.value.code == code


def test_a_model_that_declares_the_step_gives_its_labels(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    maps = maps_of(cells(3, 96, 3), 0.1)

    def declare(content: dict[str, Any]) -> None:
        content["outputs"][0]["postprocessing"] = [{"id": "microsam_watershed"}]

    package = write_package(tmp_path / "net", description(channels=3), change=declare).parent
    found = bmz.load(package).run(maps, axes="cyx", force=True)
    stricter = bmz.load(package).run(
        maps, axes="cyx", force=True, settings={"foreground_threshold": 0.95}
    )

    assert found.record["recipe"]["name"] == "labels"
    expected, _ = apply_steps([Step("microsam_watershed", {})], maps, "cyx")
    assert match_labels(np.asarray(found.labels), expected[0], 0.99).f1 == 1
    assert (np.asarray(stricter.labels) > 0).sum() < (np.asarray(found.labels) > 0).sum()
