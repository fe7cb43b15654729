"""The recipe ``affinities``: the mutex watershed, agglomeration, and their offsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.filters import gaussian
from skimage.measure import label
from skimage.segmentation import watershed
from tests.process.ideal_maps import (
    FAR,
    NEAR,
    affinities,
    cells,
    degraded,
    filling,
    soft,
    text,
    together,
)

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.affinities import (
    AFFINITIES,
    AffinitySettings,
    OffsetsUnclear,
    label_affinities,
    mutex_watershed,
    offsets_of,
)
from bmz.process.affinity_maps import WIDEST_SIGMA, Edges, edges_of, sigma_against_noise
from bmz.process.blocks import whole_map_parameters
from bmz.process.gasp import _seeds, joined
from bmz.process.matching import match_labels
from bmz.process.region_loops import count_above, count_differences
from bmz.process.relabel import ChannelsDiffer, in_raster_order

SEEDS = st.integers(0, 2**32 - 1)
OFFSETS = [*NEAR, *FAR]


def one_by_one(maps: FloatArray, shape: tuple[int, int]) -> AnyArray:
    """Part pixels by the algorithm of the paper, with sets instead of tables."""
    everywhere = np.ones(shape, np.bool_)
    joins = edges_of(maps[:2], OFFSETS[:2], everywhere)
    apart = edges_of(maps[2:], OFFSETS[2:], everywhere)
    edges = [(w, 0, n, a, b) for n, (a, b, w) in enumerate(zip(*vars(joins).values(), strict=True))]
    edges += [
        (1 - w, 1, n, a, b) for n, (a, b, w) in enumerate(zip(*vars(apart).values(), strict=True))
    ]
    cluster = {pixel: {pixel} for pixel in range(everywhere.size)}
    told_apart: dict[int, set[int]] = defaultdict(set)
    for _, kind, _, one, other in sorted(edges, key=lambda e: (-e[0], e[1], e[2])):
        mine, yours = cluster[one], cluster[other]
        if mine is yours or any(told_apart[pixel] & yours for pixel in mine):
            continue
        if kind:
            told_apart[one].add(other)
            told_apart[other].add(one)
        else:
            mine |= yours
            for pixel in yours:
                cluster[pixel] = mine
    first = [min(cluster[pixel]) + 1 for pixel in range(everywhere.size)]
    return in_raster_order(np.reshape(first, shape)).labels


@given(SEEDS)
def test_the_mutex_watershed_is_that_of_the_paper(seed: int) -> None:
    maps = np.random.default_rng(seed).random((len(OFFSETS), 9, 11)).astype(np.float32)

    found = label_affinities(maps, (1, 1), AffinitySettings(offsets=text((*NEAR, *FAR)))).labels

    np.testing.assert_array_equal(found, one_by_one(maps, (9, 11)))


@given(SEEDS)
def test_no_object_holds_two_pixels_that_the_strongest_edge_tells_apart(seed: int) -> None:
    maps = np.random.default_rng(seed).random((len(OFFSETS), 12, 12)).astype(np.float32)
    maps[2, 8, 8] = -1  # surer than any other edge

    found = label_affinities(maps, (1, 1), AffinitySettings(offsets=text((*NEAR, *FAR)))).labels

    assert found[8, 8] != found[3, 8]


def test_noise_hardly_matters_where_far_pixels_are_seen() -> None:
    truth = filling(cells(1))
    sharp = affinities(truth, (*NEAR, *FAR))
    maps = sharp + 0.15 * np.random.default_rng(0).standard_normal(sharp.shape).astype(np.float32)

    found = label_affinities(maps, (1, 1), AffinitySettings(offsets=text((*NEAR, *FAR)))).labels

    assert match_labels(found, truth, 0.9).f1 >= 0.95


def test_one_can_mean_apart() -> None:
    truth = filling(cells(2))
    maps = affinities(truth, (*NEAR, *FAR))
    words: dict[str, Any] = {"offsets": text((*NEAR, *FAR))}

    together = label_affinities(maps, (1, 1), AffinitySettings(**words)).labels
    apart = label_affinities(1 - maps, (1, 1), AffinitySettings(one_is_apart=True, **words)).labels

    np.testing.assert_array_equal(together, apart)


def test_a_foreground_channel_keeps_the_background_out() -> None:
    truth = cells(3)
    maps = np.concatenate([(truth > 0)[None], affinities(truth, (*NEAR, *FAR))]).astype(np.float32)

    found = label_affinities(
        maps, (1, 1), AffinitySettings(offsets=text((*NEAR, *FAR)), foreground_channel=0)
    ).labels

    np.testing.assert_array_equal(found > 0, truth > 0)
    assert match_labels(found, truth, 0.9).f1 == 1


def test_far_edges_can_be_read_at_every_other_pixel() -> None:
    truth = filling(cells(4))
    maps = affinities(truth, (*NEAR, *FAR))

    found = label_affinities(
        maps, (1, 1), AffinitySettings(offsets=text((*NEAR, *FAR)), stride=2)
    ).labels

    assert match_labels(found, truth, 0.9).f1 == 1


def test_direct_neighbours_of_a_stack_are_agglomerated() -> None:
    truth = np.repeat(filling(cells(5, 48, 3))[None], 6, 0)
    truth[3:] += truth.max()
    maps = affinities(truth, ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))

    found = label_affinities(maps, (1, 1, 1), AffinitySettings()).labels

    np.testing.assert_array_equal(found, in_raster_order(truth).labels)


def test_fragments_are_joined_where_the_median_of_their_border_is_high() -> None:
    maps = np.ones((2, 6, 9), np.float32)
    maps[1, :, 3], maps[1, :, 6] = 0.75, 0.4  # between columns 2 and 3, and 5 and 6
    maps[1, :2, 3] = 0.1  # the mean is below 0.6

    assert label_affinities(maps, (1, 1), AffinitySettings(min_size=0)).labels.max() == 2
    assert label_affinities(maps, (1, 1), AffinitySettings(merge=0.8)).labels.max() == 3
    assert label_affinities(maps, (1, 1), AffinitySettings(merge=0.3)).labels.max() == 1
    # 6 pairs of pixels lie along each border
    assert label_affinities(maps, (1, 1), AffinitySettings(merge=0.3, pairs=7)).labels.max() == 3


def test_an_affinity_belongs_to_its_pair_and_not_to_its_pixel() -> None:
    maps = np.ones((2, 6, 9), np.float32)
    maps[1, :, 4] = 0.6

    labels = label_affinities(maps, (1, 1), AffinitySettings()).labels

    # column 4 has the low affinity, and is the first of the right object
    np.testing.assert_array_equal(labels, [[1] * 4 + [2] * 5] * 6)


def test_what_grows_over_no_affinity_stays_background() -> None:
    maps = np.full((2, 6, 9), 0.05, np.float32)
    maps[:, 2:4, 2:5] = 1

    labels = label_affinities(maps, (1, 1), AffinitySettings(min_size=0)).labels

    assert labels.max() == 1
    assert labels[5, 8] == 0


def test_labels_lie_on_the_grid_of_the_input() -> None:
    maps = affinities(filling(cells(6, 24, 2)), (*NEAR, *FAR))

    assert label_affinities(
        maps, (2, 3), AffinitySettings(offsets=text((*NEAR, *FAR)))
    ).labels.shape == (48, 72)


def test_offsets_of_direct_neighbours_need_no_word() -> None:
    assert offsets_of("", 3, 3) == [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
    assert offsets_of(" -1,0; 0,-9", 2, 2) == [(-1, 0), (0, -9)]


@pytest.mark.parametrize(
    ("words", "channels"),
    [("", 8), ("a,b", 1), ("-1,0", 2), ("-1,0,0;0,-1,0", 2), ("0,0;1,0", 2), ("-1;0", 2)],
)
def test_offsets_that_do_not_belong_to_the_channels_are_refused(words: str, channels: int) -> None:
    with pytest.raises(OffsetsUnclear, match=r"\[recipe\.offsets\]") as refusal:
        offsets_of(words, channels, 2)

    assert refusal.value.hint is not None
    assert "--set offsets=" in refusal.value.hint


def test_far_offsets_alone_join_nothing_and_are_refused() -> None:
    with pytest.raises(OffsetsUnclear, match="direct neighbour"):
        label_affinities(
            np.ones((2, 9, 9), np.float32), (1, 1), AffinitySettings(offsets="-3,0;0,-3")
        )


def test_a_foreground_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(ChannelsDiffer):
        label_affinities(
            np.ones((2, 9, 9), np.float32), (1, 1), AffinitySettings(foreground_channel=2)
        )


def test_an_offset_wider_than_the_image_has_no_edges() -> None:
    everywhere = np.ones((3, 3), np.bool_)

    edges = edges_of(np.ones((1, 3, 3), np.float32), [(-5, 0)], everywhere)

    assert len(edges.one) == 0
    assert mutex_watershed(edges, edges, everywhere).max() == 9


DATA = {"stack": "stardist/mask3d.tif", "plane": "stardist/mask2d.tif"}


def real_truth(shared: Path, name: str) -> LabelArray:
    tifffile = pytest.importorskip("tifffile")
    labels = tifffile.imread(shared / "data" / DATA[name])[..., :256, :256].astype(np.int32)
    return in_raster_order(labels).labels


def by_biapy(maps: FloatArray) -> LabelArray:
    """Label as BiaPy 3.7.1 does: `watershed_and_agglomerate_affinities`, its steps one by one."""
    least = maps.min(axis=0)
    surface = gaussian(-least, sigma=1, truncate=1)
    fragments = watershed(surface, label(least > 0.9, connectivity=1), mask=least > 0.1)
    offsets = offsets_of("", len(maps), maps.ndim - 1)
    edges = edges_of(maps, offsets, np.ones(least.shape, np.bool_))
    # its median is the middle of one of 256 bins
    binned = (np.floor(edges.together.clip(0, 1 - 1e-6) * 256) + 0.5) / 256
    number = joined(fragments.reshape(-1), replace(edges, together=binned), 0.5, 5)
    return in_raster_order(number[fragments].astype(np.int32)).labels


@pytest.mark.parametrize("name", DATA)
def test_ideal_affinities_give_back_all_but_specks(name: str, shared: Path) -> None:
    truth = real_truth(shared, name)

    found = label_affinities(together(truth), (1,) * truth.ndim, AffinitySettings()).labels

    assert match_labels(found, truth, 0.9).f1 == 1
    assert np.count_nonzero((found > 0) != (truth > 0)) <= 2


def test_a_speck_is_no_object_where_direct_neighbours_alone_tell() -> None:
    truth = np.zeros((9, 20), np.int32)
    truth[2:4, 2:9], truth[2:5, 11:16] = 1, 2  # 14 and 15 px

    def count(maps: FloatArray, **words: Any) -> int:
        return int(label_affinities(maps, (1, 1), AffinitySettings(**words)).labels.max())

    assert [count(together(truth)), count(together(truth), min_size=0)] == [1, 2]
    far = affinities(truth, (*NEAR, *FAR))
    offsets = text((*NEAR, *FAR))
    # with affinities to far pixels the background is an object, too
    assert [count(far, offsets=offsets), count(far, offsets=offsets, min_size=15)] == [3, 2]


def test_two_sure_pixels_are_no_seed() -> None:
    maps = np.full((2, 9, 20), 0.6, np.float32)
    maps[:, 4, 4:6], maps[:, 4, 12:15] = 1, 1

    def count(size: int) -> int:
        words: dict[str, Any] = {"full": 1.0, "sigma": 0.0, "seed_size": size}
        return int(
            label_affinities(maps, (1, 1), AffinitySettings(merge=0.9, **words)).labels.max()
        )

    assert [count(size) for size in (2, 3, 4)] == [2, 1, 0]


NOISY: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    **{s: partial(degraded, strength=s) for s in ("light", "medium", "strong")},
    **{f"{s}, each pixel": partial(degraded, strength=s, each_pixel=True)
       for s in ("light", "medium", "strong")},
    **{f"soft {blur}": partial(soft, blur=blur, noise=noise)
       for blur, noise in ((0.4, 0.5), (0.6, 1), (0.8, 1.5), (1, 2))},
}  # fmt: skip


@pytest.mark.parametrize("noise", NOISY)
@pytest.mark.parametrize("name", DATA)
def test_noise_makes_no_specks_and_finds_more_than_the_rule_of_biapy(
    name: str, noise: str, shared: Path
) -> None:
    truth = real_truth(shared, name)
    maps = NOISY[noise](together(truth))

    found = label_affinities(maps, (1,) * truth.ndim, AffinitySettings()).labels
    reference = by_biapy(maps)

    assert found.max() <= 1.3 * truth.max()
    for iou in (0.5, 0.8, 0.9):
        least = match_labels(reference, truth, iou).f1
        assert match_labels(found, truth, iou).f1 >= least - 0.01, iou
    if noise.startswith(("light", "soft 0.4", "soft 0.6")):
        assert match_labels(found, truth, 0.8).f1 >= 0.95


def test_affinities_that_are_nowhere_sure_are_shares_of_the_highest() -> None:
    maps = together(filling(cells(6)))

    found = label_affinities(0.7 * maps, (1, 1), AffinitySettings()).labels

    np.testing.assert_array_equal(found, label_affinities(maps, (1, 1), AffinitySettings()).labels)
    assert label_affinities(0.7 * maps, (1, 1), AffinitySettings(full=1.0)).labels.max() == 0


def test_a_map_in_which_nothing_is_together_has_no_objects() -> None:
    faint = 0.1 * together(filling(cells(6)))

    assert label_affinities(faint, (1, 1), AffinitySettings()).labels.max() == 0
    assert (
        label_affinities(
            np.full((2, 9, 9), np.nan, np.float32), (1, 1), AffinitySettings()
        ).labels.max()
        == 0
    )


def test_only_noise_from_pixel_to_pixel_is_smoothed_away() -> None:
    maps = together(filling(cells(7)))

    def sigma(part: FloatArray) -> float:
        return sigma_against_noise(part, lambda read: read)

    assert sigma(maps) == sigma(soft(maps, 0.6, 1)) == 0
    widths = [sigma(degraded(maps, s, each_pixel=True)) for s in ("light", "medium", "strong")]
    assert 0 < widths[0] < widths[1] < widths[2] <= WIDEST_SIGMA


def test_blocks_take_noise_and_height_from_the_whole_map() -> None:
    maps = degraded(together(filling(cells(8))), "medium", each_pixel=True)
    asked = AFFINITIES.parameters_from({}, {})

    found = whole_map_parameters(AFFINITIES, maps, asked)

    assert found["sigma"] == sigma_against_noise(maps, lambda part: part) > 0
    assert 0.5 < float(found["full"]) < 1
    np.testing.assert_array_equal(
        AFFINITIES.apply(maps, (1, 1), found).labels, AFFINITIES.apply(maps, (1, 1), asked).labels
    )
    far = {**asked, "offsets": text((*NEAR, *FAR))}
    assert whole_map_parameters(AFFINITIES, np.zeros((6, 9, 9)), far) == far


def test_affinities_along_some_axes_alone_join_nothing_along_the_others() -> None:
    plane = cells(9, 48, 3)
    stack = np.repeat(plane[None], 3, 0)
    maps = together(stack)[1:]

    labels = label_affinities(maps, (1, 1, 1), AffinitySettings(offsets="0,-1,0;0,0,-1")).labels

    assert labels.max() == 3 * plane.max()


def test_offsets_to_the_pixel_behind_give_the_same_objects() -> None:
    truth = cells(10)
    turned = together(truth[::-1, ::-1])[:, ::-1, ::-1]

    labels = label_affinities(turned, (1, 1), AffinitySettings(offsets="1,0;0,1")).labels

    np.testing.assert_array_equal(labels, truth)


@given(SEEDS)
def test_joined_fragments_leave_no_border_that_is_high(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fragments = rng.integers(0, 9, 60)
    edges = Edges(rng.integers(0, 60, 200), rng.integers(0, 60, 200), rng.random(200, np.float32))

    number = joined(fragments, edges, 0.6, 2)

    now = number[fragments]
    ends = np.sort(np.stack([now[edges.one], now[edges.other]]), axis=0).T
    for pair in {tuple(pair) for pair in ends.tolist() if 0 < pair[0] < pair[1]}:
        values = np.sort(edges.together[(ends == pair).all(axis=1)])
        assert len(values) < 2 or values[(len(values) - 1) // 2] < 0.6
    assert number[0] == 0
    assert all(number[number] == number)


@pytest.mark.parametrize("shape", [(2, 30, 41), (3, 7, 20, 31), (1, 2, 2)])
def test_noise_and_sure_affinities_are_counted_as_by_arrays(shape: tuple[int, ...]) -> None:
    maps = np.random.default_rng(0).normal(0.5, 0.7, shape).astype(np.float32)
    away = [
        np.abs(line[..., 1:-1] - (line[..., 2:] + line[..., :-2]) / 2).ravel()
        for line in (np.moveaxis(maps, axis, -1) for axis in range(1, maps.ndim))
    ]
    likely = maps.clip(0, 1) - np.float32(0.5)
    counts, sure = np.zeros(64, np.int64), np.zeros(64, np.int64)

    count_differences(maps.reshape(shape[0], -1, *shape[-2:]), counts)
    count_above(maps.reshape(-1), np.float32(0.5), sure)

    bins = np.linspace(0, 1, 65)
    expected = np.histogram(np.minimum(np.concatenate(away), 1), bins)[0]
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(sure, np.histogram(likely[likely >= 0] * 2, bins)[0])


def test_seeds_of_affinities_along_some_axes_are_connected_along_those_alone() -> None:
    inside = np.array([[1, 1, 0], [1, 0, 1]], np.bool_)

    rows, both = _seeds(inside, [(0, -1)]), _seeds(inside, [(0, -1), (-1, 0)])

    assert rows.tolist() == [[1, 1, 0], [2, 0, 3]]
    assert both.tolist() == [[1, 1, 0], [1, 0, 2]]
