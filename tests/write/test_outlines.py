"""Outlines run along the edges of pixels, and hold exactly the pixels of their objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.draw import polygon2mask

from bmz.base.arrays import AnyArray
from bmz.write.outlines import Outlines, outlines_of
from bmz.write.result import Region


def outlines_in(mask: AnyArray) -> Outlines:
    return outlines_of([Region(mask, 0, 0)], {})


def filled(rings: list[AnyArray], shape: tuple[int, ...]) -> AnyArray:
    """Say which pixels lie in an odd number of rings, as scikit-image fills them."""
    inside = np.zeros(shape, np.bool_)
    for ring in rings:
        inside ^= polygon2mask(shape, ring[:, ::-1] - 0.5)
    return inside


def redrawn(found: Outlines, shape: tuple[int, ...]) -> AnyArray:
    mask = np.zeros(shape, np.int64)
    for k, label in enumerate(found.labels):
        for pieces in found.polygons(k):
            mask[filled(list(pieces), shape)] = label
    return mask


MASKS = arrays.arrays(np.int32, st.tuples(*(st.integers(1, 9),) * 2), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_outlines_hold_the_pixels_of_their_objects(mask: AnyArray) -> None:
    found = outlines_in(mask)

    assert found.labels.tolist() == [n for n in np.unique(mask).tolist() if n]
    assert np.array_equal(redrawn(found, mask.shape), mask)
    for k, label in enumerate(found.labels):
        ends = found.first_rings[k : k + 2]
        assert found.areas[slice(*ends)].sum() == np.count_nonzero(mask == label)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_pieces_are_valid_polygons_of_shapely(mask: AnyArray) -> None:
    shapely = pytest.importorskip("shapely")
    found = outlines_in(mask)

    for k, label in enumerate(found.labels):
        pieces = [shapely.Polygon(outer, holes) for outer, *holes in found.polygons(k)]

        whole = shapely.MultiPolygon(pieces)

        assert shapely.is_valid_reason(whole) == "Valid Geometry"
        assert whole.area == np.count_nonzero(mask == label)
        assert all(piece.exterior.is_ccw for piece in pieces)


def test_corners_alone_are_points_of_an_outline() -> None:
    mask = np.zeros((6, 8), np.int32)
    mask[1:3, 2:6] = 4

    found = outlines_in(mask)

    assert found.rings(0)[0].tolist() == [[6, 1], [6, 3], [2, 3], [2, 1]]


def test_an_island_in_a_hole_of_its_own_object_keeps_its_holes() -> None:
    mask = np.ones((9, 9), np.int32)
    mask[1:8, 1:8], mask[2:7, 2:7], mask[4, 4] = 0, 1, 0

    (polygons,) = (outlines_in(mask).polygons(k) for k in range(1))

    assert sorted(len(polygon) for polygon in polygons) == [2, 2]
    assert np.array_equal(redrawn(outlines_in(mask), mask.shape), mask)


def test_objects_of_a_stack_have_an_outline_in_each_plane() -> None:
    stack = np.zeros((3, 5, 5), np.int32)
    stack[0, 1, 1] = stack[1, 1, 1] = 2
    stack[1, 3, 3] = stack[2, 3, 3] = 1

    found = outlines_of([Region(stack, 10, 20)], {"t": 4})

    assert found.labels.tolist() == [1, 1, 2, 2]
    assert [found.place(k) for k in range(4)] == [
        {"t": 4, "z": 1}, {"t": 4, "z": 2}, {"t": 4, "z": 0}, {"t": 4, "z": 1},
    ]  # fmt: skip
    assert found.rings(0)[0].min(axis=0).tolist() == [23, 13]


def test_a_mask_without_objects_has_no_outlines() -> None:
    assert len(outlines_in(np.zeros((3, 4), np.int32)).labels) == 0
    assert len(outlines_of([], {}).labels) == 0
