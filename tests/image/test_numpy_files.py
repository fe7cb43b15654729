from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.engine.label_masks import read_mask
from bmz.image.faults import ImageUnreadable
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image
from bmz.image.series import series_paths

LABELS = np.array([[0, 1, 1], [2, 2, 0]], np.uint16)


def test_each_array_of_an_archive_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, nuclei=LABELS, names=np.array(["x"]), cells=LABELS[:1] * 2)

    paths = series_paths(path)

    assert [one.name for one in paths] == ["a.npz[nuclei]", "a.npz[cells]"]
    info = inspect_image(paths[1])
    assert (info.axes, info.shape) == ("yx", (1, 3))
    assert np.array_equal(read_image(info).array, LABELS[:1] * 2)
    with open_image(inspect_image(paths[0])) as image:
        assert np.array_equal(image.region({"y": slice(1, 2)}).array, LABELS[1:])


def test_an_archive_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=LABELS)
    path.write_bytes(path.read_bytes()[:80])

    with pytest.raises(ImageUnreadable, match="damaged NPZ"):
        inspect_image(path)


def test_masks_of_cellpose_are_read_as_labels(tmp_path: Path) -> None:
    path = tmp_path / "a_seg.npy"
    content = {"masks": LABELS, "filename": "a.tif", "est_diam": np.float64(3), "flows": [LABELS]}
    np.save(path, np.array(content))

    assert np.array_equal(read_mask(path), LABELS)


class Harmful:
    """Runs a command when it is loaded by an ordinary unpickler."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a_seg.npy", np.array({"masks": LABELS, "x": Harmful()}))

    with pytest.raises(ImageUnreadable, match="which is not an array"):
        read_mask(tmp_path / "a_seg.npy")

    assert not (tmp_path / "harmed").exists()


def test_objects_without_masks_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"outlines": LABELS}))

    with pytest.raises(ImageUnreadable, match="no Cellpose masks"):
        read_mask(tmp_path / "a.npy")


def test_axes_may_be_written_in_capitals(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 5), np.uint8))

    assert inspect_image(tmp_path / "a.npy", axes="TYX").axes == "tyx"
