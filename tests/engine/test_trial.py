"""Models are tried on crops where something is to be seen, and good masks are told from bad."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.engine.file_trial import (
    ALL_CROPS,
    CROP_PX,
    LEAST_CROP_PX,
    NothingToTry,
    Trial,
    TrialExtent,
    crop_boxes,
    side_for,
    try_image,
)
from bmz.engine.image_header import given_image
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.engine.trial import CHANGES, FEW_CHANGES
from bmz.image.region import HeldImage
from bmz.testing.package import description, write_package

pytest.importorskip("onnxruntime")

HALF, HALF_BRIGHT = 0.5, 80

STARTER = RunRequest("starter/nuclei", (), Path(), force=True, scale=1.0)


def nuclei(side: int = 192, diameter: int = 17, seed: int = 0) -> AnyArray:
    rng = np.random.default_rng(seed)
    y, x = np.indices((side, side))
    image = np.full((side, side), 20.0)
    for at_y in range(20, side - 10, 2 * diameter):
        for at_x in range(20, side - 10, 2 * diameter):
            cy, cx = at_y + rng.uniform(-3, 3), at_x + rng.uniform(-3, 3)
            image += 120 / (1 + np.exp(np.hypot(y - cy, x - cx) - diameter / 2))
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def held(array: AnyArray, axes: str) -> HeldImage:
    image = given_image(array, axes)
    return HeldImage(image.info, image.read(image.info))


def trial_of(
    array: AnyArray,
    axes: str = "yx",
    request: RunRequest = STARTER,
    extent: TrialExtent = ALL_CROPS,
) -> Trial:
    setup = prepare(replace(request, axes=axes))
    with closing(opened(setup)) as backend:
        return try_image(setup, held(array, axes), backend, extent=extent)


def test_small_objects_need_small_crops() -> None:
    assert side_for([]) == side_for([40.0]) == CROP_PX
    assert side_for([5.0, 9.0]) == LEAST_CROP_PX
    assert side_for([5.0, 20.0]) == 320


def test_a_network_that_is_slow_is_run_on_fewer_changed_copies() -> None:
    image = nuclei(100)

    (few,) = trial_of(image, extent=TrialExtent(slow_s=0.0)).crops
    (every,) = trial_of(image).crops

    assert set(few.tried.copies) == set(FEW_CHANGES)
    assert set(every.tried.copies) == set(CHANGES)


def test_as_many_crops_are_tried_as_asked_of_the_side_that_is_asked() -> None:
    trial = trial_of(nuclei(400), extent=TrialExtent(most=1, side_px=200))

    (crop,) = trial.crops
    assert {along.stop - along.start for along in crop.box.values()} == {200}


def test_a_changed_copy_comes_back_to_its_grid() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (2, 30, 41))

    for name, change in CHANGES.items():
        if change.scale == 1 and name == "mirrored":
            assert np.array_equal(change.back(change.image(labels)), labels)
    assert {change.scale for change in CHANGES.values()} == {0.9, 1.0, 1.1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
def test_changed_copies_keep_shape_and_dtype(dtype: type[np.generic]) -> None:
    array = nuclei(64).astype(dtype)

    for change in CHANGES.values():
        copy = change.image(array)
        assert (copy.shape, copy.dtype) == (array.shape, array.dtype)
    flat = np.full((5, 5), 7, dtype)
    assert np.array_equal(CHANGES["brighter"].image(flat), flat)


def test_a_small_image_is_tried_whole() -> None:
    assert crop_boxes(held(nuclei(100), "yx"), "yx") == [{"y": slice(0, 100), "x": slice(0, 100)}]


def test_crops_lie_where_something_is_to_be_seen() -> None:
    image = np.zeros((1600, 1600), np.uint8)
    image[520:1000, 1040:1500] = nuclei(480)[:480, :460]

    first, *others = crop_boxes(held(image, "yx"), "yx")

    assert len(others) <= 2
    assert first == {"y": slice(512, 1024), "x": slice(1024, 1536)}
    assert all(box["y"].stop - box["y"].start == CROP_PX for box in others)


def test_one_plane_is_taken_of_a_series_and_few_of_a_stack() -> None:
    image = np.zeros((3, 40, 600, 600), np.uint8)
    image[1, 20, :192, :192] = nuclei(192)

    (planes, *_), (stack, *_) = (crop_boxes(held(image, "tzyx"), space) for space in ("yx", "zyx"))

    assert planes["t"].stop - planes["t"].start == 1
    assert planes["z"].stop - planes["z"].start == 1
    assert stack["t"] == planes["t"]
    assert stack["z"].stop - stack["z"].start == 32


def test_nuclei_are_likely_good_and_noise_is_not() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (192, 192)).astype(np.uint8)
    good, bad = trial_of(nuclei()), trial_of(noise)

    assert good.quality.word == "likely good"
    assert bad.quality.word == "likely wrong"
    assert good.worst.objects == pytest.approx(25, abs=3)
    assert set(good.worst.tried.copies) == set(CHANGES)


def test_inverted_nuclei_are_worse_than_nuclei() -> None:
    image = nuclei()

    assert trial_of(255 - image).quality.f1 < trial_of(image).quality.f1 - 0.3


def test_a_model_without_objects_has_nothing_to_try() -> None:
    with pytest.raises(NothingToTry) as caught:
        trial_of(nuclei(64), request=replace(STARTER, recipe="none", save=frozenset({"raw"})))
    assert "--recipe" in caught.value.hint


@pytest.mark.parametrize(("space", "channels"), [("zyx", 1), ("yx", 3)])
def test_a_mask_of_a_stack_or_of_colours_is_never_called_likely_good(
    tmp_path: Path, space: str, channels: int
) -> None:
    pytest.importorskip("onnx")
    package = write_package(tmp_path / "m", description(space=space, channels=channels))
    request = replace(
        STARTER, model=str(package), channels=tuple(range(channels)), recipe="components"
    )
    clear = np.where(nuclei(48) > HALF_BRIGHT, 1, 0).astype(np.float32)
    array = np.repeat(clear[None], channels if space == "yx" else 16, 0)
    trial = trial_of(array, "cyx" if space == "yx" else "zyx", request, TrialExtent(slow_s=0))

    assert trial.crops[0].objects > 0
    assert not trial.quality.seen
    assert trial.quality.word == "look closely"
    assert trial.quality.high - trial.quality.low > HALF
