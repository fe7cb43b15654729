"""The label recipes on outputs of real networks, against the true masks of 80 images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.app.run import run
from bmz.engine.request import RunRequest
from bmz.process.matching import match_labels

IOU = 0.5


def mean_ap(
    shared: Path,
    folder: Path,
    model: str,
    recipe: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> float:
    """Give the mean over the test images of TP / (TP + FP + FN)."""
    data = shared / "data/dsb2018/test"
    images = tuple(sorted((data / "images").glob("*.tif")))
    request = RunRequest(
        str(shared / "models" / model),
        images,
        folder,
        recipe=recipe,
        settings=settings or {},
        save=frozenset({"labels"}),
    )
    done = run(request).done
    assert len(done) == 80
    scores = [
        match_labels(
            tifffile.imread(one.files["labels"]).astype(np.int32),
            tifffile.imread(data / "masks" / one.image.name).astype(np.int32),
            IOU,
        ).ap
        for one in done
    ]
    return float(np.mean(scores))


@pytest.mark.slow
def test_stardist_finds_the_nuclei(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")

    assert mean_ap(shared, tmp_path, "stardist-dsb2018") >= 0.85


@pytest.mark.slow
def test_contours_of_unmicst_become_nuclei(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")

    assert mean_ap(shared, tmp_path, "unmicst-nuclei") >= 0.55


@pytest.mark.slow
def test_cutting_at_necks_beats_plain_components(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    plain = mean_ap(shared, tmp_path / "plain", "nuclei-broad", "components")

    cut = mean_ap(shared, tmp_path / "cut", "nuclei-broad", "distance_watershed")

    assert cut >= plain + 0.10
