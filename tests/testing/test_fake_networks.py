"""Fake backends fail where they are told to, and their networks compute what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmz.base.arrays import AnyArray
from bmz.predict.backend import Device, NetworkFailed, OutOfMemory, Overlapping, TensorCountDiffers
from bmz.testing.backend import (
    FakeBackend,
    OverlappingFake,
    block_mean,
    every,
    local_mean,
    pointwise,
    repeated,
)

IMAGES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)),
    elements=st.integers(-99, 99).map(float),
)


def zeros(*shape: int) -> AnyArray:
    return np.zeros(shape, np.float32)


def test_a_fake_remembers_the_shapes_of_every_run_and_that_it_was_closed() -> None:
    backend = FakeBackend(pointwise, takes=2)

    backend.run([zeros(1, 1, 2, 3), zeros(1, 1, 2, 1)])
    backend.run([zeros(2, 1, 1), zeros(2, 1, 1)])

    assert backend.seen == [((1, 1, 2, 3), (1, 1, 2, 1)), ((2, 1, 1), (2, 1, 1))]
    assert not backend.closed
    backend.close()
    assert backend.closed


def test_a_fake_is_out_of_memory_from_one_pixel_too_many_on_all_inputs_together() -> None:
    backend = FakeBackend(pointwise, takes=2, most_px=12, device=Device("cuda", 1))

    (fits,) = backend.run([zeros(1, 6), zeros(1, 6)])
    with pytest.raises(OutOfMemory) as caught:
        backend.run([zeros(1, 13), zeros(1, 0)])

    assert fits.shape == (1, 6)
    assert caught.value.message == (
        "cuda:1 does not have enough memory to run the network on float32 1x13, float32 1x0"
    )
    assert len(backend.seen) == 2  # what failed was asked for all the same


def test_a_fake_of_one_size_refuses_all_others_along_its_last_axes() -> None:
    backend = FakeBackend(pointwise, only=(4, 8))

    (any_batch,) = backend.run([zeros(5, 2, 4, 8)])
    with pytest.raises(NetworkFailed) as caught:
        backend.run([zeros(1, 1, 8, 4)])

    assert any_batch.shape == (5, 2, 4, 8)
    assert caught.value.message == (
        "the network failed in fake on float32 1x1x8x4: it takes (4, 8) alone"
    )


@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_fake_takes_the_number_of_inputs_that_it_was_made_for(given: int) -> None:
    backend = FakeBackend(pointwise, takes=2)

    with pytest.raises(TensorCountDiffers) as caught:
        backend.run([zeros(1, 1)] * given)

    assert caught.value.message == (f"the network has {given} inputs, but its description names 2")
    assert backend.seen == []


def test_a_fake_of_two_halves_counts_the_tickets_that_are_open_at_once() -> None:
    backend = OverlappingFake(pointwise)

    first, second = backend.submit([zeros(1, 2)]), backend.submit([zeros(1, 3)])
    started = list(backend.seen)
    backend.collect(second)
    backend.collect(first)
    backend.collect(backend.submit([zeros(1, 4)]))

    assert isinstance(backend, Overlapping)
    assert not isinstance(FakeBackend(pointwise), Overlapping)
    assert started == []
    assert backend.seen == [((1, 3),), ((1, 2),), ((1, 4),)]
    assert (backend.open, backend.most_open) == (0, 2)


def test_a_ticket_that_fails_is_no_longer_open() -> None:
    backend = OverlappingFake(pointwise, most_px=2)

    ticket = backend.submit([zeros(1, 3)])
    with pytest.raises(OutOfMemory):
        backend.collect(ticket)

    assert (backend.open, backend.most_open) == (0, 1)


def test_pointwise_weighs_the_inputs_by_their_place() -> None:
    (total,) = pointwise([np.array([1, 10], np.uint8), np.array([100.0]), np.array([1000, 0])])

    assert total.tolist() == [1 + 2 * 100 + 3 * 1000, 10 + 2 * 100]
    assert total.dtype == np.float32


@settings(max_examples=30)
@given(IMAGES, st.integers(1, 3), st.integers(1, 2))
def test_every_takes_back_what_repeated_gave(x: AnyArray, times: int, spatial: int) -> None:
    (large,) = repeated(times, spatial=spatial)([x])
    (back,) = every(times, spatial=spatial)([large])

    kept = x.ndim - spatial
    assert large.shape == x.shape[:kept] + tuple(times * n for n in x.shape[kept:])
    assert large.dtype == x.dtype
    np.testing.assert_array_equal(back, x)
    assert not np.shares_memory(back, large)


@settings(max_examples=30)
@given(IMAGES, st.integers(0, 2))
def test_a_local_mean_is_that_of_a_window_with_zeros_beyond_the_tile(
    x: AnyArray, radius: int
) -> None:
    side = 2 * radius + 1
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (radius, radius), (radius, radius)])

    (mean,) = local_mean(radius, spatial=2)([x])

    for row, column in np.ndindex(x.shape[2:]):
        window = padded[:, :, row : row + side, column : column + side]
        wanted = window.sum((2, 3)) / side**2
        np.testing.assert_allclose(mean[:, :, row, column], wanted, rtol=1e-6, atol=1e-4)


def test_a_valid_local_mean_lacks_what_is_lost_at_each_side() -> None:
    x = np.random.default_rng(0).random((1, 1, 9, 7), np.float32)

    (same,), (valid,) = local_mean(2, spatial=2)([x]), local_mean(2, spatial=2, lost=2)([x])

    np.testing.assert_array_equal(valid, same[:, :, 2:7, 2:5])


def test_a_local_mean_in_three_dimensions_leaves_channels_apart() -> None:
    x = np.zeros((1, 2, 3, 3, 3), np.float32)
    x[0, 1, 1, 1, 1] = 27

    (mean,) = local_mean(1, spatial=3)([x])

    assert mean[0, 0].max() == 0
    np.testing.assert_allclose(mean[0, 1], 1, rtol=1e-6)


def test_blocks_are_averaged_along_the_last_axes_alone() -> None:
    x = np.array([[[0.0, 2, 10, 10], [4, 6, 10, 30]], [[1, 1, 0, 0], [1, 1, 0, 0]]], np.float32)

    (mean,) = block_mean(2, spatial=2)([x])

    assert mean.tolist() == [
        [[3, 3, 15, 15], [3, 3, 15, 15]],
        [[1, 1, 0, 0], [1, 1, 0, 0]],
    ]


def test_blocks_that_are_cut_short_are_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        block_mean(4, spatial=1)([zeros(1, 6)])
