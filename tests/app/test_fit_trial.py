"""``bmz fit --try`` runs the best models on crops, and ranks them by the masks that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile
from tests.engine.test_trial import nuclei

from bmz.app.fit import fit, trial
from bmz.app.fit.trial import Attempt, Contest
from bmz.base.arrays import AnyArray
from bmz.base.progress import Event, Note, nobody
from bmz.engine.file_trial import Trial, TrialExtent
from bmz.engine.fit_image import FitRequest, MeasuredImage
from bmz.process.quality import predictor
from bmz.report.zoo_text import NONE_WORKS, fit_json, fit_summary, fit_table
from bmz.results.fit import ModelFit, Ranking
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
    request = FitRequest((folder / "a.tif",), tries=2, try_seconds=1e6)  # on a busy machine, too
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
    tried = ranking(settings, nuclei(400, 9), tmp_path, tries=4).tried

    assert [len(model.trials[0].crops) for model in tried] == [3, 3, 1]
    sides = {stop - start for crop in tried[0].trials[0].crops for start, stop in crop.box.values()}
    assert sides == {192}


def test_the_best_two_stay_first_though_further_crops_are_harder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = tuple(ModelFit(name, "1") for name in "abc")

    def attempts(
        _: Contest, models: Sequence[ModelFit], extent: TrialExtent
    ) -> tuple[dict[str, Attempt], dict[str, ModelFit]]:
        f1 = {"a": 0.9, "b": 0.8, "c": 0.7} if extent.most == 1 else {"a": 0.3, "b": 0.4}
        told = {model: predictor("tried").at_f1(f1[model.id]) for model in models}
        return {m.id: Attempt(m, (Trial((), told[m]),), 0.0) for m in models}, {}

    monkeypatch.setattr(Contest, "attempts", attempts)
    monkeypatch.setattr(trial, "_usable", lambda *_: models)
    monkeypatch.setattr(trial, "_larger_than_crop", lambda _: True)
    image = cast("MeasuredImage", None)

    tried = trial.with_trials(Ranking((), models), [image], FitRequest((), tries=3), nobody).tried

    assert [model.id for model in tried] == ["b", "a", "c"]


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
