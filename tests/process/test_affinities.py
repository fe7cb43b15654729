"""The recipe ``affinities``: the mutex watershed, agglomeration, and their offsets."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.process.ideal_maps import FAR, NEAR, affinities, cells, filling, text

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.affinities import (
    OffsetsUnclear,
    edges_of,
    label_affinities,
    mutex_watershed,
    offsets_of,
)
from bmz.process.matching import match_labels
from bmz.process.output_map import ChannelsDiffer
from bmz.process.relabel import in_raster_order

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

    found = label_affinities(maps, (1, 1), offsets=text((*NEAR, *FAR))).labels

    np.testing.assert_array_equal(found, one_by_one(maps, (9, 11)))


@given(SEEDS)
def test_no_object_holds_two_pixels_that_the_strongest_edge_tells_apart(seed: int) -> None:
    maps = np.random.default_rng(seed).random((len(OFFSETS), 12, 12)).astype(np.float32)
    maps[2, 8, 8] = -1  # surer than any other edge

    found = label_affinities(maps, (1, 1), offsets=text((*NEAR, *FAR))).labels

    assert found[8, 8] != found[3, 8]


def test_noise_hardly_matters_where_far_pixels_are_seen() -> None:
    truth = filling(cells(1))
    sharp = affinities(truth, (*NEAR, *FAR))
    maps = sharp + 0.15 * np.random.default_rng(0).standard_normal(sharp.shape).astype(np.float32)

    found = label_affinities(maps, (1, 1), offsets=text((*NEAR, *FAR))).labels

    assert match_labels(found, truth, 0.9).f1 >= 0.95


def test_one_can_mean_apart() -> None:
    truth = filling(cells(2))
    maps = affinities(truth, (*NEAR, *FAR))
    words = {"offsets": text((*NEAR, *FAR))}

    together = label_affinities(maps, (1, 1), **words).labels
    apart = label_affinities(1 - maps, (1, 1), one_is_apart=True, **words).labels

    np.testing.assert_array_equal(together, apart)


def test_a_foreground_channel_keeps_the_background_out() -> None:
    truth = cells(3)
    maps = np.concatenate([(truth > 0)[None], affinities(truth, (*NEAR, *FAR))]).astype(np.float32)

    found = label_affinities(maps, (1, 1), offsets=text((*NEAR, *FAR)), foreground_channel=0).labels

    np.testing.assert_array_equal(found > 0, truth > 0)
    assert match_labels(found, truth, 0.9).f1 == 1


def test_far_edges_can_be_read_at_every_other_pixel() -> None:
    truth = filling(cells(4))
    maps = affinities(truth, (*NEAR, *FAR))

    found = label_affinities(maps, (1, 1), offsets=text((*NEAR, *FAR)), stride=2).labels

    assert match_labels(found, truth, 0.9).f1 == 1


def test_direct_neighbours_of_a_stack_are_agglomerated() -> None:
    truth = np.repeat(filling(cells(5, 48, 3))[None], 6, 0)
    truth[3:] += truth.max()
    maps = affinities(truth, ((-1, 0, 0), (0, -1, 0), (0, 0, -1)))

    found = label_affinities(maps, (1, 1, 1)).labels

    np.testing.assert_array_equal(found, in_raster_order(truth).labels)


def test_fragments_are_joined_where_the_mean_of_their_border_is_high() -> None:
    maps = np.ones((2, 6, 9), np.float32)
    maps[1, :, 3], maps[1, :, 6] = 0.6, 0.4  # between columns 2 and 3, and 5 and 6

    assert label_affinities(maps, (1, 1)).labels.max() == 2
    assert label_affinities(maps, (1, 1), merge=0.7).labels.max() == 3
    assert label_affinities(maps, (1, 1), merge=0.3).labels.max() == 1


def test_what_grows_over_no_affinity_stays_background() -> None:
    maps = np.full((2, 6, 9), 0.05, np.float32)
    maps[:, 2:4, 2:5] = 1

    labels = label_affinities(maps, (1, 1)).labels

    assert labels.max() == 1
    assert labels[5, 8] == 0


def test_labels_lie_on_the_grid_of_the_input() -> None:
    maps = affinities(filling(cells(6, 24, 2)), (*NEAR, *FAR))

    assert label_affinities(maps, (2, 3), offsets=text((*NEAR, *FAR))).labels.shape == (48, 72)


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
        label_affinities(np.ones((2, 9, 9), np.float32), (1, 1), offsets="-3,0;0,-3")


def test_a_foreground_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(ChannelsDiffer):
        label_affinities(np.ones((2, 9, 9), np.float32), (1, 1), foreground_channel=2)


def test_an_offset_wider_than_the_image_has_no_edges() -> None:
    everywhere = np.ones((3, 3), np.bool_)

    edges = edges_of(np.ones((1, 3, 3), np.float32), [(-5, 0)], everywhere)

    assert len(edges.one) == 0
    assert mutex_watershed(edges, edges, everywhere).max() == 9
