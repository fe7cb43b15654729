from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bmz.process import distance_watershed as depth
from bmz.process.distance_watershed import depth_of


@pytest.mark.parametrize(
    ("shape", "grid"), [((70, 50), (1, 1)), ((33, 41), (2, 2)), ((9, 20, 31), (1, 2, 4))]
)
@pytest.mark.parametrize("at_once", [64, 1 << 16])
def test_depth_is_the_distance_to_the_next_entry_outside(
    shape: tuple[int, ...], grid: tuple[int, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth, "AT_ONCE", at_once)
    inside = np.random.default_rng(0).random(shape) < 0.97

    found = depth_of(inside, grid)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ndimage.distance_transform_edt(inside, grid), rtol=1e-6)
    assert not found[~inside].any()
