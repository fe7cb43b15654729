"""``bmz run`` predicts the quality of each mask and object; ``--flag-below`` warns of bad ones."""

from __future__ import annotations

import csv
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


def test_every_run_predicts_and_warns_of_what_is_likely_wrong_alone(
    images: list[str], tmp_path: Path
) -> None:
    done = records(tmp_path, *images)

    assert done["good"]["quality"]["word"] == "likely good"
    assert "trial.wrong" in {finding["code"] for finding in done["nois"]["findings"]}
    assert not {"trial.wrong", "trial.doubtful"} & {f["code"] for f in done["good"]["findings"]}


def test_the_joint_table_says_of_each_image_how_good_its_mask_is(
    images: list[str], tmp_path: Path
) -> None:
    records(tmp_path, *images)
    with (tmp_path / "out/objects.csv").open(newline="", encoding="utf-8") as file:
        words = {row["image"]: row["mask_quality"] for row in csv.DictReader(file)}

    assert words == {"good.tif": "likely good", "noise.tif": "likely wrong"}


def test_of_a_series_the_worst_plane_counts(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "series.tif", np.stack([nuclei(), noise]))
    done = records(tmp_path, str(tmp_path / "series.tif"), "--axes", "tyx", "--flag-below", "0.5")

    assert done["seri"]["quality"]["word"] == "likely wrong"


def test_an_image_in_parts_has_the_confidences_of_one_in_one_piece(
    images: list[str], tmp_path: Path
) -> None:
    tables, doubted = [], []
    for name, words in (("whole", []), ("parts", ["--memory", "0.0001"])):
        done = records(tmp_path / name, images[0], *words)["good"]
        tables.append((tmp_path / name / "out/good.objects.csv").read_bytes())
        doubted.append(done["doubted"])

    assert "streamed" in done
    assert done["quality"]["word"] == "likely good"
    assert b",confidence," in tables[0].splitlines()[0]
    assert tables[0] == tables[1]
    assert doubted[0] == doubted[1]


def test_a_blot_among_nuclei_is_the_first_that_is_doubted(tmp_path: Path) -> None:
    picture = nuclei(256)
    picture[100:103, 100:160] = picture.max()
    tifffile.imwrite(tmp_path / "blot.tif", picture)
    done = records(tmp_path, str(tmp_path / "blot.tif"))["blot"]
    with (tmp_path / "out/blot.objects.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["confidence"]))

    assert 95 < float(rows[0]["centroid_y_px"]) < 108
    assert all(d["confidence"] < 0.5 for d in done["doubted"])
