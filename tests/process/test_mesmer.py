"""The recipe ``mesmer`` against the published steps, done with scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import disk, h_maxima
from skimage.segmentation import watershed
from tests.process.ideal_maps import cells, contour, foreground, inner_distance

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.matching import match_labels
from bmz.process.mesmer import MesmerSettings, label_mesmer, without_small_holes
from bmz.process.relabel import ChannelsDiffer, in_raster_order


def published(distance: FloatArray, interior: FloatArray, rise: float) -> AnyArray:
    """Do the deep watershed with the defaults of Mesmer (Greenwald et al. 2022, Methods)."""
    # in float32 scikit-image takes a rise for enough that falls short by a rounding
    markers = label(h_maxima(distance.astype(np.float64), rise, footprint=disk(2)))
    soft = ndimage.gaussian_filter(interior, 2, mode="nearest")
    labels = watershed(-soft, markers, mask=soft > 0.2)
    size = np.bincount(labels.ravel())
    kept = in_raster_order(np.where((size >= 15)[labels], labels, 0)).labels
    for number, box in enumerate(ndimage.find_objects(kept), start=1):
        own = kept[box] == number
        holes = label(ndimage.binary_fill_holes(own) & ~own, connectivity=1)
        for hole in range(1, holes.max() + 1):
            if np.count_nonzero(holes == hole) < 15:
                kept[box][(holes == hole) & (kept[box] == 0)] = number
    return kept


def maps_of(labels: LabelArray, seed: int = 0) -> FloatArray:
    """Give soft and noisy maps of objects: inner distance and interior."""
    rng = np.random.default_rng(seed)
    noise = 0.03 * rng.standard_normal((2, *labels.shape))
    sharp = np.stack([inner_distance(labels), foreground(labels) - contour(labels)])
    soft: AnyArray = ndimage.gaussian_filter(sharp, (0, 1, 1)) + noise
    return soft.astype(np.float32)


@pytest.mark.parametrize(("compartment", "rise"), [("whole-cell", 0.075), ("nuclear", 0.1)])
def test_cells_of_real_masks_are_those_of_the_published_steps(
    compartment: str, rise: float, shared: Path
) -> None:
    files = sorted((shared / "data/dsb2018/test/masks").glob("*.tif"))[::12]
    matched = wanted = 0
    for file in files:
        maps = maps_of(in_raster_order(tifffile.imread(file).astype(np.int32)).labels)
        theirs = published(maps[0], maps[1], rise)

        ours = label_mesmer(maps, (1, 1), MesmerSettings(compartment=compartment)).labels

        score = match_labels(ours, theirs, 0.9)
        matched, wanted = matched + 2 * score.tp, wanted + 2 * score.tp + score.fp + score.fn
    assert matched / wanted >= 0.99
    assert wanted > 400


@given(st.integers(0, 2**32 - 1))
@example(89191)
def test_uncertain_maps_give_the_objects_of_the_published_steps(seed: int) -> None:
    maps = maps_of(cells(seed % 1000), seed)

    ours = label_mesmer(maps, (1, 1), MesmerSettings()).labels

    assert match_labels(ours, published(maps[0], maps[1], 0.075), 0.9).f1 >= 0.95


def test_nuclei_and_cells_lie_in_one_output_of_eight_channels() -> None:
    large, small = cells(1), cells(2)
    empty = np.zeros_like(large, np.float32)
    parts = [maps_of(labels) for labels in (large, small)]
    both = np.stack([p for d, i in parts for p in (d, empty, i, 1 - i)])

    for compartment, alone in zip(("whole-cell", "nuclear"), parts, strict=True):
        together = label_mesmer(both, (1, 1), MesmerSettings(compartment=compartment)).labels

        single = label_mesmer(alone, (1, 1), MesmerSettings(compartment=compartment)).labels
        np.testing.assert_array_equal(together, single)


def test_only_small_holes_are_filled() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:18, 2:28] = 1
    labels[4:6, 4:6] = 0
    labels[8:14, 10:20] = 0

    filled = without_small_holes(labels, 15)

    assert filled[4, 4] == 1
    assert filled[10, 15] == 0
    np.testing.assert_array_equal(without_small_holes(labels, 0), labels)


def test_scores_are_the_mean_interior() -> None:
    maps = np.stack([inner_distance(cells(3)), 0.75 * foreground(cells(3))])

    done = label_mesmer(maps, (1, 1), MesmerSettings(interior_smooth=0.0, interior_threshold=0.5))

    assert done.scores is not None
    assert done.scores == pytest.approx(0.75)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_another_number_of_channels_is_refused(channels: int) -> None:
    with pytest.raises(ChannelsDiffer, match="inner distance"):
        label_mesmer(np.zeros((channels, 9, 9), np.float32), (1, 1), MesmerSettings())
