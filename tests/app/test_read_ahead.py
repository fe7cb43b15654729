"""The next images are read and checked ahead: in order, each fault at its own image."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bmz.app.run import run
from bmz.base.errors import CouldNotTell
from bmz.base.progress import Event, Progress
from bmz.engine import run_images
from bmz.engine.request import RunRequest
from bmz.engine.setup import CheckedPixels, PlannedImage, RunSetup, planned_or_failed, prepare
from bmz.results.images import ImageFailure
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    rng = np.random.default_rng(0)
    names = [tmp_path / f"{letter}.npy" for letter in "abcdef"]
    for path in names:
        np.save(path, rng.random((40, 50)).astype(np.float32))
    return RunRequest(model, tuple(names), tmp_path / "out", axes="yx")


@pytest.fixture(params=[1, 3, 20])
def _processors(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: request.param)


def waiting(request_: RunRequest) -> tuple[RunSetup, list[PlannedImage | ImageFailure]]:
    setup = prepare(request_)
    return setup, [planned_or_failed(setup, image) for image in request_.images]


@pytest.mark.usefixtures("_processors")
def test_images_come_in_their_order_whatever_the_number_of_processors(
    request_: RunRequest,
) -> None:
    np.save(request_.images[1], np.full((40, 50), np.nan, np.float32))
    request_.images[4].write_bytes(b"no image")
    heard: list[Event] = []

    summary = run(request_, heard.append)

    done = [one.image.stem for one in summary.done]
    failed = [one.image.stem for one in summary.failed]
    assert (done, failed) == (["a", "c", "d", "f"], ["b", "e"])
    files = [
        event.what for event in heard if isinstance(event, Progress) and event.stage == "files"
    ]
    assert files == [image.name for image in request_.images]


def test_no_more_than_a_few_images_are_held(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: 3)
    begun: list[str] = []

    def looked(_: RunSetup, planned: PlannedImage) -> CheckedPixels:
        begun.append(planned.image.stem)
        raise CouldNotTell("never read", hint="", code="test.never")

    monkeypatch.setattr(run_images, "look", looked)
    setup, images = waiting(request_)

    with run_images.read_ahead(setup, images, lambda _: True) as coming:
        first = next(coming)
        assert isinstance(first, PlannedImage)
        assert first.looked is not None
        with pytest.raises(CouldNotTell, match="never read"):
            first.looked()

    assert begun[0] == "a"
    assert set(begun) <= {"a", "b", "c"}


def test_what_is_run_in_parts_and_what_failed_is_not_read_ahead(request_: RunRequest) -> None:
    setup, images = waiting(request_)
    failed = ImageFailure(request_.images[0], CouldNotTell("none", hint="", code="test.none"))

    with run_images.read_ahead(setup, [failed, images[1]], lambda _: False) as coming:
        first, second = coming

    assert first is failed
    assert isinstance(second, PlannedImage)
    assert second.looked is None


def test_reading_ahead_does_not_disturb_a_trial_of_memory(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, images = waiting(request_)
    monkeypatch.setattr(run_images, "wide_side", lambda *_: 4096)
    by_user = replace(setup, request=replace(setup.request, tile=64))

    ahead = []
    for one in (setup, by_user):
        with run_images.read_ahead(one, images, lambda _: True) as coming:
            first = next(coming)
            assert isinstance(first, PlannedImage)
            ahead.append(first.looked is not None)

    assert ahead == [False, True]


def test_a_stop_waits_for_what_is_being_read_and_begins_nothing(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: 2)
    threads = threading.active_count()
    setup, images = waiting(request_)

    def stopped() -> None:
        with run_images.read_ahead(setup, images, lambda _: True) as coming:
            next(coming)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()

    assert threading.active_count() == threads


def test_no_images_are_none(request_: RunRequest) -> None:
    setup = prepare(request_)

    with run_images.read_ahead(setup, [], lambda _: True) as coming:
        assert list(coming) == []
