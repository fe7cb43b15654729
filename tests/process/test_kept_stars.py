"""What a page keeps of the stars of a map from one setting to the next changes no label."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bmz.process.kept_stars import KeptStars
from bmz.process.stardist import StarSettings, label_stars

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20)
@given(seed=SEEDS, count=st.integers(2, 6))
def test_labels_after_any_moves_are_those_of_one_call(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.uniform(2, 9, (1 + 8, 21, 18)).astype(np.float32)
    maps[0] = np.round(rng.random(maps.shape[1:]), 1)  # many are equally good
    kept = KeptStars()

    for _ in range(count):
        chosen = StarSettings(
            prob_threshold=float(rng.choice([0.1, 0.3, 0.5, 0.7, 1.0])),
            nms_threshold=float(rng.choice([0.1, 0.4])),
            border=int(rng.choice([0, 2])),
        )
        found = kept(maps, (2, 2), chosen)

        expected = label_stars(maps, (2, 2), chosen)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.columns.keys() == expected.columns.keys()
        for name, column in expected.columns.items():
            np.testing.assert_array_equal(found.columns[name], column)


def test_another_map_and_another_grid_are_labelled_anew() -> None:
    rng, kept, chosen = np.random.default_rng(4), KeptStars(), StarSettings()
    first, second = rng.uniform(0, 9, (2, 9, 16, 16)).astype(np.float32)
    kept(first, (1, 1), chosen)

    for maps, grid in ((second, (1, 1)), (second, (2, 2))):
        labels = kept(maps, grid, chosen).labels

        np.testing.assert_array_equal(labels, label_stars(maps, grid, chosen).labels)
