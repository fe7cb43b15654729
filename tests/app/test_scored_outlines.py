"""Outlines that other programs drew are scored as label masks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from roifile import ImagejRoi

from bmz.app.score import score
from bmz.results.compare import PairFailed, PairScore


def truth_of_rois(path: Path) -> Path:
    corners = np.array([(2, 1), (6, 1), (6, 5), (2, 5)])
    with zipfile.ZipFile(path, "w") as file:
        for name, by in (("1", 0), ("2", 8)):
            roi = ImagejRoi.frompoints(corners + by, name=name)
            file.writestr(f"{name}.roi", roi.tobytes())
    return path


def test_rois_are_drawn_at_the_size_of_the_other_mask(tmp_path: Path) -> None:
    mask = np.zeros((30, 20), np.uint16)
    mask[1:5, 2:6], mask[9:13, 10:14] = 1, 2
    tifffile.imwrite(tmp_path / "a.labels.tif", mask)
    rois = truth_of_rois(tmp_path / "a.rois.zip")

    for pair in ((tmp_path / "a.labels.tif", rois), (rois, tmp_path / "a.labels.tif")):
        (one,) = score(*pair, ious=[0.99]).outcomes

        assert isinstance(one, PairScore)
        assert one.matchings[0].f1 == 1


def test_rois_beyond_the_mask_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.labels.tif", np.ones((9, 9), np.uint8))

    (one,) = score(tmp_path / "a.labels.tif", truth_of_rois(tmp_path / "a.zip")).outcomes

    assert isinstance(one, PairFailed)
    assert "need an image of 13 x 14 px" in str(one.error)


@pytest.mark.parametrize("others", [["b.csv"], ["a.run.json"]])
def test_a_folder_of_rois_is_a_folder_of_masks(others: list[str], tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    truth_of_rois(tmp_path / "truth" / "a.rois.zip")
    for name in others:
        (tmp_path / "truth" / name).write_text("")
    mask = np.zeros((30, 20), np.uint16)
    mask[1:5, 2:6] = 5
    tifffile.imwrite(tmp_path / "a.labels.tif", mask)

    (one,) = score(tmp_path / "a.labels.tif", tmp_path / "truth", ious=[0.5]).outcomes

    assert isinstance(one, PairScore)
    assert (one.matchings[0].tp, one.matchings[0].fn) == (1, 1)
