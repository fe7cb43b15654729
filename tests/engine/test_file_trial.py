"""Where a mask is not likely to be good, options are proposed with which it is."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.engine.test_trial import STARTER, nuclei

from bmz.base.arrays import AnyArray
from bmz.base.progress import Event, Listener, Note, nobody
from bmz.engine.file_trial import Trial, TrialExtent, try_file
from bmz.engine.setup import opened, prepare
from bmz.results.images import Cure

pytest.importorskip("onnxruntime")

LEAST_FACTOR = 0.4
"""Half of the scale that a call has is not enough for an image of eight times the size."""


def tried(
    folder: Path,
    pixels: AnyArray,
    axes: str = "yx",
    *,
    cure_s: float = math.inf,
    listener: Listener = nobody,
    **words: object,
) -> tuple[Trial, Cure | None]:
    tifffile.imwrite(folder / "a.tif", pixels, photometric="minisblack")
    setup = prepare(replace(STARTER, axes=axes, **words))  # type: ignore[arg-type]
    extent = TrialExtent(cure_s=cure_s)
    with closing(opened(setup)) as backend:
        return try_file(setup, folder / "a.tif", backend, listener, extent=extent)


def test_the_channel_with_nuclei_is_proposed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(90, 20, (192, 192)).clip(0, 255).astype(np.uint8)
    trial, cure = tried(tmp_path, np.stack([noise, nuclei()]), "cyx", channels=(0,))

    assert trial.quality.word != "likely good"
    assert cure is not None
    assert cure.options == "--channels 1"
    assert cure.quality.word == "likely good"
    assert trial.summary(cure=cure).cure == cure


def test_a_smaller_scale_is_proposed_for_an_image_that_is_too_large(tmp_path: Path) -> None:
    trial, cure = tried(tmp_path, ndimage.zoom(nuclei(80), 8, order=1))

    assert trial.quality.word == "likely wrong"
    assert cure is not None
    option, factor = cure.options.split()
    assert option == "--scale"
    assert float(factor) < LEAST_FACTOR
    assert cure.quality.word == "likely good"


def test_an_image_whose_objects_are_dark_is_inverted(tmp_path: Path) -> None:
    trial, cure = tried(tmp_path, 255 - nuclei())

    assert trial.quality.word == "likely wrong"
    assert cure is not None
    assert cure.options == "--invert"
    assert cure.quality.word == "likely good"


def test_another_threshold_is_proposed_where_the_one_that_is_given_finds_nothing(
    tmp_path: Path,
) -> None:
    trial, cure = tried(tmp_path, nuclei(), settings={"prob_threshold": "0.99"})

    assert trial.quality.word == "likely wrong"
    assert cure is not None
    assert cure.options.startswith("--set prob_threshold=0.")
    assert cure.quality.word == "likely good"


def test_after_its_seconds_no_further_option_is_tried(tmp_path: Path) -> None:
    told: list[Event] = []
    trial, _ = tried(tmp_path, 255 - nuclei(), cure_s=1e-9, listener=told.append)

    assert trial.quality.word != "likely good"
    notes = [event.text for event in told if isinstance(event, Note)]
    assert notes
    assert "tried 1 of " in notes[0]
    assert "--try-seconds" in notes[0]


def test_a_good_mask_needs_no_cure(tmp_path: Path) -> None:
    trial, cure = tried(tmp_path, nuclei())

    assert trial.quality.word == "likely good"
    assert cure is None


def test_nothing_cures_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (128, 128)).astype(np.uint8)
    trial, cure = tried(tmp_path, noise)

    assert trial.quality.word == "likely wrong"
    assert cure is None
