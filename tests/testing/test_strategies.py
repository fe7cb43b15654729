"""What the strategies draw is what they say."""

from __future__ import annotations

import numpy as np
from hypothesis import find, given
from tests.strategies import axis_rules, label_masks

from bmz.base.arrays import LabelArray
from bmz.plan.tiling import AxisRule, largest_stride, plan_tiles


@given(label_masks())
def test_a_mask_is_a_small_plane_or_stack_of_the_default_labels(mask: LabelArray) -> None:
    assert mask.dtype == np.int32
    assert mask.ndim in (2, 3)
    assert max(mask.shape) <= 6
    assert set(np.unique(mask)) <= set(range(7))


@given(label_masks((3, 2), labels=[0, 9], dtypes=["uint8", "int64"]))
def test_a_mask_has_the_shape_labels_and_dtype_asked_for(mask: LabelArray) -> None:
    assert mask.shape == (3, 2)
    assert mask.dtype in (np.uint8, np.int64)
    assert set(np.unique(mask)) <= {0, 9}


def test_objects_in_several_pieces_are_among_the_masks() -> None:
    mask = find(label_masks((1, 3)), lambda drawn: bool(drawn[0, 0] == drawn[0, 2] > drawn[0, 1]))

    assert mask.tolist() == [[1, 0, 1]]


@given(axis_rules())
def test_every_rule_leaves_something_of_a_tile(rule: AxisRule) -> None:
    stride, align = largest_stride(rule, rule.least_tile)

    assert stride > 0
    assert stride % align == 0
    assert plan_tiles({"x": 1000}, [rule], side={"x": rule.least_tile}).count > 1
