"""Arrays that come with bmz are read as NumPy reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bmz.base.arrays import shipped_arrays
from bmz.check import kind_classifier, kind_network


@pytest.mark.parametrize("path", [kind_classifier.ARRAYS, kind_network.ARRAYS])
def test_arrays_of_the_classifier_are_those_that_numpy_reads(path: Path) -> None:
    arrays = shipped_arrays(path)

    with np.load(path, allow_pickle=False) as file:
        assert list(arrays) == file.files
        for name in file.files:
            np.testing.assert_array_equal(arrays[name], file[name], strict=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_any_shape_are_read(save: Callable[..., None], tmp_path: Path) -> None:
    wanted = {"none": np.zeros((0, 3)), "one": np.array(7, np.int8), "words": np.array(["a", "bc"])}
    save(tmp_path / "a.npz", **wanted)

    arrays = shipped_arrays(tmp_path / "a.npz")

    for name, array in wanted.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_columns_first_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.asfortranarray(np.zeros((2, 3))))

    with pytest.raises(ValueError, match="no array in rows"):
        shipped_arrays(tmp_path / "a.npz")


def test_of_arrays_those_are_read_whose_names_begin_as_asked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", grey_a=np.zeros(2), colour_a=np.zeros(3))

    assert list(shipped_arrays(tmp_path / "a.npz", prefix="grey_")) == ["grey_a"]
