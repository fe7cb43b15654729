"""A map of a resized image lies on the image as OpenCV would bring it there, part by part too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.process.adapt import ResizedMaps


def noise(*shape: int) -> AnyArray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("image", [(40, 31), (13, 9), (21, 50)])
def test_a_map_is_resized_as_cellpose_resizes_it(image: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    maps = noise(3, 20, 15)

    found = np.asarray(ResizedMaps(maps, (20, 15), image, (1, 1), (False,) * 3))

    wanted = [cv2.resize(one, image[::-1], interpolation=cv2.INTER_LINEAR) for one in maps]
    np.testing.assert_allclose(found, np.stack(wanted), atol=1e-5)


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([(1, 1), (2, 2)]),
    st.data(),
)
def test_a_part_is_bit_by_bit_that_of_the_whole(
    network: tuple[int, int], image: tuple[int, int], grid: tuple[int, int], data: st.DataObject
) -> None:
    sizes = [-(-n // step) for n, step in zip(network, grid, strict=True)]
    resized = ResizedMaps(noise(3, *sizes), network, image, grid, (False, True, False))
    whole = np.asarray(resized)
    y, x = (sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in resized.shape[1:])

    part = resized[:, slice(*y), slice(*x)]

    np.testing.assert_array_equal(part, whole[:, slice(*y), slice(*x)])
    np.testing.assert_array_equal(resized[2], whole[2])
    np.testing.assert_array_equal(resized[1, ..., slice(*x)], whole[1, ..., slice(*x)])
    places: tuple[Any, ...] = np.nonzero(whole[0] > 0.5)
    np.testing.assert_array_equal(
        resized[(slice(1, None), *places)], whole[(slice(1, None), *places)]
    )


def test_lengths_grow_with_the_image_and_other_values_do_not() -> None:
    maps = np.ones((3, 10, 10), np.float32)

    found = np.asarray(ResizedMaps(maps, (10, 10), (25, 25), (1, 1), (False, True, True)))

    assert np.unique(found[0]) == 1
    assert np.unique(found[1:]) == 2.5


def test_a_coarse_map_stays_as_coarse_in_pixels_of_the_image() -> None:
    maps = noise(1, 10, 8)
    resized = ResizedMaps(maps, (20, 15), (41, 30), (2, 2), (False,))

    assert resized.shape == (1, 21, 15)
    assert np.asarray(resized).min() >= maps.min()
