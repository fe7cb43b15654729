"""``bmz run --flag-below`` predicts the quality of each mask, and warns of the bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.engine.test_trial import nuclei

from bmz.cli.main import status_of

pytest.importorskip("onnxruntime")


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "good.tif", nuclei())
    tifffile.imwrite(tmp_path / "noise.tif", noise)
    return [str(tmp_path / name) for name in ("good.tif", "noise.tif")]


def records(folder: Path, *words: str) -> dict[str, Any]:
    out = folder / "out"
    assert status_of(["run", "starter/nuclei", *words, "-o", str(out), "--scale", "1"]) == 0
    return {path.name[:4]: json.loads(path.read_text()) for path in out.glob("*.run.json")}


def test_the_record_holds_the_prediction_and_a_warning(images: list[str], tmp_path: Path) -> None:
    done = records(tmp_path, *images, "--flag-below", "0.5")

    assert done["good"]["quality"]["word"] == "likely good"
    assert done["nois"]["quality"]["word"] == "likely wrong"
    assert done["nois"]["quality"]["f1"] < 0.5
    codes = {name: {f["code"] for f in record["findings"]} for name, record in done.items()}
    assert "trial.wrong" in codes["nois"]
    assert not {"trial.wrong", "trial.doubtful"} & codes["good"]
    assert "raw" not in done["good"]["files"]


def test_the_number_decides_and_not_the_word(images: list[str], tmp_path: Path) -> None:
    done = records(tmp_path, images[0], "--flag-below", "1")

    assert done["good"]["quality"]["word"] == "likely good"
    assert "trial.doubtful" in {finding["code"] for finding in done["good"]["findings"]}


def test_without_it_nothing_is_predicted(images: list[str], tmp_path: Path) -> None:
    assert all("quality" not in record for record in records(tmp_path, *images).values())


def test_of_a_series_the_worst_plane_counts(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "series.tif", np.stack([nuclei(), noise]))
    done = records(tmp_path, str(tmp_path / "series.tif"), "--axes", "tyx", "--flag-below", "0.5")

    assert done["seri"]["quality"]["word"] == "likely wrong"


def test_an_image_in_parts_is_not_judged(images: list[str], tmp_path: Path) -> None:
    done = records(tmp_path, images[0], "--flag-below", "0.5", "--memory", "0.0001")

    assert "streamed" in done["good"]
    assert "quality" not in done["good"]
