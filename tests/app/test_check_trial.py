"""``bmz check --try`` says how good a mask is likely to be, and shows the worst crop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from PIL import Image
from tests.engine.test_trial import nuclei

from bmz.cli.main import cli

pytest.importorskip("onnxruntime")


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "good.tif", nuclei())
    tifffile.imwrite(tmp_path / "noise.tif", noise)
    return [str(tmp_path / name) for name in ("good.tif", "noise.tif")]


def checked(*words: str) -> Result:
    return CliRunner().invoke(cli, ["check", "starter/nuclei", *words])


def test_the_document_has_a_trial_of_every_image(images: list[str], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    result = checked(*images, "--try", "--pictures", str(pictures), "--json")

    good, noise = json.loads(result.stdout)["images"]
    assert good["trial"]["word"] == "likely good"
    assert good["trial"]["low"] <= good["trial"]["f1"] <= good["trial"]["high"]
    assert noise["trial"]["word"] == "likely wrong"
    assert "trial.wrong" in {finding["code"] for finding in noise["findings"]}
    assert not {f["code"] for f in good["findings"]} & {"trial.wrong", "trial.doubtful"}
    for image in (good, noise):
        with Image.open(image["trial"]["picture"]) as picture:
            assert min(picture.size) >= 192
    assert result.exit_code == 0


def test_with_strict_a_mask_that_is_likely_wrong_fails(images: list[str]) -> None:
    result = checked(*images, "--try", "--strict")

    assert result.exit_code == 1
    assert "trial: likely good" in result.stdout
    assert "trial: likely wrong" in result.stdout


def test_without_try_nothing_is_tried(images: list[str]) -> None:
    assert all(
        image["trial"] is None for image in json.loads(checked(*images, "--json").stdout)["images"]
    )


def test_a_cure_is_looked_for_as_long_as_is_asked(
    images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(
        "bmz.engine.file_trial.find_cure", lambda *_, most_s, **__: given.append(most_s)
    )

    checked(*images, "--try", "--try-seconds", "7")

    assert given == [7.0]  # none is looked for where the mask is likely good


def test_pictures_need_a_trial(images: list[str], tmp_path: Path) -> None:
    result = checked(*images, "--pictures", str(tmp_path / "p"))

    assert result.exit_code == 2
    assert "--try" in result.stderr


def test_an_image_that_cannot_be_read_does_not_stop_the_others(images: list[str]) -> None:
    Path(images[0]).write_bytes(b"no image")
    result = checked(*images, "--try", "--json")

    broken, noise = json.loads(result.stdout)["images"]
    assert broken["trial"] is None
    assert broken["error"] is not None
    assert noise["trial"] is not None
