"""``bmz fit --try`` runs the best models on crops, and ranks them by the masks that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.engine.test_trial import nuclei

from bmz.app.fit import fit
from bmz.base.arrays import AnyArray
from bmz.base.progress import Event, Note
from bmz.engine.fit_image import FitRequest
from bmz.report.zoo_text import NONE_WORKS, fit_json, fit_summary, fit_table
from bmz.results.fit import Ranking
from bmz.testing.package import SmallZoo, small_zoo, write_package
from bmz.zoo.settings import ZooSettings

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[SmallZoo]:
    """A zoo of one model, which gives its input back."""
    write_package(tmp_path / "zoo" / "flat-cat")
    with small_zoo(tmp_path / "zoo") as served:
        yield served


@pytest.fixture
def settings(zoo: SmallZoo, tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache", index_url=zoo.index_url)


def ranking(settings: ZooSettings, pixels: AnyArray, folder: Path, **words: Any) -> Ranking:
    tifffile.imwrite(folder / "a.tif", pixels)
    request = FitRequest((folder / "a.tif",), tries=2)
    return fit(replace(request, **words), settings)


def test_models_that_were_tried_come_first_the_best_mask_on_top(
    settings: ZooSettings, tmp_path: Path
) -> None:
    tried = ranking(settings, nuclei(), tmp_path)

    first, second = tried.models[:2]
    assert first.id.startswith("starter/")
    assert first.trials[0].quality.word == "likely good"
    assert first.guess >= second.guess > 0
    assert first.beside is not None
    assert 0 < (first.agreement or 0) <= 1
    assert len(tried.tried) == 2
    assert "likely good (" in fit_table(tried)[0][4]
    document = json.loads(fit_json(tried))["models"]
    assert document[0]["trials"][0]["word"] == "likely good"
    assert document[0]["predicted"]["f1"] == pytest.approx(first.guess, abs=1e-3)
    assert document[2]["predicted"] is None
    assert all(model["trials"] == [] for model in document[2:])
    assert tried.exit_status == 0


def test_the_best_two_are_tried_on_more_crops_of_a_large_image(
    settings: ZooSettings, tmp_path: Path
) -> None:
    tried = ranking(settings, nuclei(400, 9), tmp_path, tries=3).tried

    crops = [len(model.trials[0].crops) for model in tried]
    assert sorted(crops, reverse=True)[:2] == [3, 3]
    assert all(count == 1 for count in sorted(crops, reverse=True)[2:])
    sides = {stop - start for crop in tried[0].trials[0].crops for start, stop in crop.box.values()}
    assert sides == {192}


def test_models_that_hardly_differ_are_told_to_be_a_tie(
    settings: ZooSettings, tmp_path: Path
) -> None:
    tried = ranking(settings, nuclei(), tmp_path)
    first, second = tried.tried
    assert first.beside is not None

    near = replace(second, beside=replace(first.beside, f1=first.beside.f1 - 0.04))
    far = replace(second, beside=replace(first.beside, f1=first.beside.f1 - 0.06))

    assert replace(tried, models=(first, near)).tied == (near,)
    assert replace(tried, models=(first, far)).tied == ()
    words = [text for _, text in fit_summary(replace(tried, models=(first, near)))]
    assert f"a tie with {first.id}: {near.id}" in words


def test_where_no_mask_is_good_that_is_said(settings: ZooSettings, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    tried = ranking(settings, noise, tmp_path, kind=None)
    words = [text for _, text in fit_summary(tried)]

    if tried.tried:  # else none of them is made for noise, which is said, too
        assert NONE_WORKS in words
    assert tried.exit_status == 1


def test_after_its_seconds_no_further_model_is_tried(settings: ZooSettings, tmp_path: Path) -> None:
    told: list[Event] = []
    tifffile.imwrite(tmp_path / "a.tif", nuclei())
    tried = fit(FitRequest((tmp_path / "a.tif",), tries=3, try_seconds=0.0), settings, told.append)

    assert len(tried.tried) == 1
    assert any("--try-seconds" in event.text for event in told if isinstance(event, Note))


def test_without_try_nothing_is_run(settings: ZooSettings, tmp_path: Path) -> None:
    assert ranking(settings, nuclei(), tmp_path, tries=0).tried == ()
