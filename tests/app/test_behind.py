"""Images are labelled and written while the network goes on; nothing else is different."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.files import claimed, whole_file
from bmz.base.progress import Event, Note, Progress, nobody
from bmz.engine import run_image, run_images
from bmz.engine.image_result import ImageResult
from bmz.engine.memory import bytes_in_one_piece
from bmz.engine.pipeline import finished_plane
from bmz.engine.request import RunRequest
from bmz.engine.setup import PlannedImage, planned_or_failed, prepare
from bmz.engine.stages import NotesInTurn, Threads
from bmz.predict.backend import Device
from bmz.predict.onnx import LayersInOnnxruntime
from bmz.results.images import DeviceUse, ImageFailure, ImageRun
from bmz.testing.backend import FakeBackend, OverlappingFake, pointwise
from bmz.testing.package import description, write_package
from bmz.write.outputs import OUTPUT_KINDS, default_kinds
from bmz.write.result import Result

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LONG_S = 60
"""So long something is waited for that comes at once unless the code is at fault."""


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    rng = np.random.default_rng(0)
    names = [tmp_path / f"{letter}.tif" for letter in "abcdef"]
    for number, path in enumerate(names):
        shape = (3, 40, 50) if number == 2 else (40 + number, 50)
        image = (rng.random(shape) > 0.7).astype(np.uint8)
        tifffile.imwrite(
            path, image, metadata={"axes": "TYX"[-image.ndim :]}, photometric="minisblack"
        )
    return RunRequest(model, tuple(names), tmp_path / "out", save=frozenset(default_kinds()))


def test_many_images_are_looked_at_by_what_runs_the_network_and_found_to_be_the_same(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    by_runtime = LayersInOnnxruntime.__call__

    def counted(layers: LayersInOnnxruntime, values: AnyArray) -> list[AnyArray]:
        seen.append(values.shape)
        return by_runtime(layers, values)

    monkeypatch.setattr(LayersInOnnxruntime, "__call__", counted)

    many = run(request_).done
    of_many = len(seen)
    single = [run(replace(request_, images=(i,), overwrite=True)).done[0] for i in request_.images]

    assert (of_many, len(seen)) == (6, 6)
    assert [one.record["findings"] for one in many] == [one.record["findings"] for one in single]


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the number of threads behind the network."""
    return lambda count: monkeypatch.setattr(run_images, "threads_behind", lambda *_: count)


def with_network(
    request: RunRequest,
    backend: FakeBackend,
    used: Callable[[DeviceUse], None] = lambda _: None,
) -> list[ImageRun | ImageFailure]:
    """Run images with a network of the test."""
    setup = prepare(request)
    images = dict.fromkeys(request.images)
    paths = run_images.claim_files(setup, images)
    states = run_images.image_states(setup, images, paths)
    files = run_images.files_of_states(states, paths)
    return list(
        run_images.run_images(setup, states, files, nobody, lambda: nullcontext(backend), used)
    )


def labels_wait_for(event: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = finished_plane

    def waiting(*words: Any) -> Any:
        assert event.wait(LONG_S), "the network waits for the labels"
        return labelled(*words)

    monkeypatch.setattr(run_image, "finished_plane", waiting)


@pytest.mark.parametrize("images", [slice(0, 2), slice(2, 3)], ids=["images", "planes"])
def test_one_is_labelled_while_the_network_runs_the_next(
    images: slice,
    request_: RunRequest,
    behind: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind(1)
    second, runs = threading.Event(), Counter[str]()

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        runs["all"] += 1
        if runs["all"] > 1:
            second.set()
        return pointwise(inputs)

    labels_wait_for(second, monkeypatch)

    outcomes = with_network(replace(request_, images=request_.images[images]), FakeBackend(network))

    assert all(isinstance(outcome, ImageRun) for outcome in outcomes)


def test_one_is_written_while_the_next_is_labelled(
    request_: RunRequest, behind: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(1)
    second, labelled = threading.Event(), finished_plane
    write = OUTPUT_KINDS["overlay"].write
    planes = Counter[str]()

    def labels(*words: Any) -> Any:
        planes["all"] += 1
        if planes["all"] > 1:
            second.set()
        return labelled(*words)

    def written(result: Result, path: Path) -> None:
        assert second.wait(LONG_S), "the labels wait for the writer"
        write(result, path)

    monkeypatch.setattr(run_image, "finished_plane", labels)
    monkeypatch.setitem(OUTPUT_KINDS, "overlay", replace(OUTPUT_KINDS["overlay"], write=written))

    summary = run(replace(request_, images=request_.images[:2]))

    assert not summary.failed


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    records = {name: json.loads(f) for name, f in files.items() if name.endswith(".run.json")}
    for record in records.values():
        del record["timings_s"], record["device_busy"]
    return files | {name: json.dumps(record).encode() for name, record in records.items()}


def test_files_notes_and_order_are_the_same_as_without(
    request_: RunRequest, behind: Callable[[int], None]
) -> None:
    tifffile.imwrite(request_.images[1], np.full((40, 50), np.nan, np.float32))
    request_.images[4].write_bytes(b"no image")
    empty = np.zeros(
        (40, 50), np.uint8
    )  # of which the check, and the labels, have something to say
    tifffile.imwrite(request_.images[3], empty, metadata={"axes": "YX"})
    files, notes, order = [], [], []

    for count in (0, 1, 3):
        behind(count)
        heard: list[Event] = []
        request = replace(request_, folder=request_.folder.with_name(f"out{count}"))
        summary = run(request, heard.append)
        files.append(contents(request.folder))
        notes.append([(e.kind, e.text) for e in heard if isinstance(e, Note)])
        order.append([outcome.image for outcome in summary.outcomes])
        assert [f.image.stem for f in summary.failed] == ["b", "e"]

    assert files[0] == files[1] == files[2]
    assert notes[0] == notes[1] == notes[2]
    assert any("no objects were found" in text for _, text in notes[0])
    assert order == [list(request_.images)] * 3


@pytest.mark.parametrize("stage", ["labels", "writer"])
def test_what_fails_behind_fails_its_image_alone(
    stage: str,
    request_: RunRequest,
    behind: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind(2)
    labelled, table = finished_plane, OUTPUT_KINDS["table"]

    def refused() -> None:
        raise CouldNotTell("refused", hint="", code="test.refused")

    def labels(known: Any, shape: tuple[int, ...], work: Any) -> Any:
        return refused() if shape == (43, 50) else labelled(known, shape, work)

    def written(result: Result, path: Path) -> None:
        if path.name.startswith("d."):
            refused()
        table.write(result, path)

    if stage == "labels":
        monkeypatch.setattr(run_image, "finished_plane", labels)
    else:
        monkeypatch.setitem(OUTPUT_KINDS, "table", replace(table, write=written))

    summary = run(request_)

    assert [(f.image.stem, f.error.code) for f in summary.failed] == [("d", "test.refused")]
    assert [done.image.stem for done in summary.done] == ["a", "b", "c", "e", "f"]
    names = {path.name for path in request_.folder.iterdir()}
    assert not [name for name in names if name.startswith((".", "d."))]


class Held:
    """Counts the images between the network and their last file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.most, self._lock = 0, 0, threading.Lock()
        predicted, written = run_image.predicted_image, ImageResult.written

        def begun(*words: Any) -> Any:
            self._add(1)
            return predicted(*words)

        def ended(*words: Any) -> Any:
            self._add(-1)
            return written(*words)

        monkeypatch.setattr(run_image, "predicted_image", begun)
        monkeypatch.setattr(ImageResult, "written", ended)

    def _add(self, more: int) -> None:
        with self._lock:
            self.now += more
            self.most = max(self.most, self.now)


def test_no_more_images_are_held_than_there_are_threads_to_label_them(
    request_: RunRequest, behind: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(1)
    held, third = Held(monkeypatch), threading.Event()

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if held.now > 2:
            third.set()
        return pointwise(inputs)

    labels_wait_for(third, monkeypatch)
    images = [image for image in request_.images if image.stem != "c"]

    outcomes = with_network(replace(request_, images=tuple(images)), FakeBackend(network))

    assert all(isinstance(outcome, ImageRun) for outcome in outcomes)
    assert held.most == 3  # one in the network, one labelled, one that waits


@pytest.mark.parametrize("limit", [1.5, 100.0])
def test_images_that_the_memory_does_not_hold_together_are_run_one_after_the_other(
    limit: float,
    request_: RunRequest,
    behind: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind(3)
    setup = prepare(request_)
    planned = planned_or_failed(setup, request_.images[5])
    assert isinstance(planned, PlannedImage)
    memory_gb = limit * bytes_in_one_piece(planned, setup) / 1e9
    held, several = Held(monkeypatch), threading.Event()

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if held.now > 1:
            several.set()
        return pointwise(inputs)

    if limit > 2:
        labels_wait_for(several, monkeypatch)
    images = [image for image in request_.images if image.stem != "c"]

    outcomes = with_network(
        replace(request_, images=tuple(images), memory_gb=memory_gb), FakeBackend(network)
    )

    assert all(isinstance(outcome, ImageRun) for outcome in outcomes)
    assert (held.most == 1) == (limit < 2)


def test_a_stop_leaves_whole_results_alone_and_no_thread(
    request_: RunRequest, behind: Callable[[int], None]
) -> None:
    behind(2)
    threads = threading.active_count()
    tiles = Counter[str]()

    def stopped(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "tiles":
            tiles["all"] += 1
            if tiles["all"] == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request_, stopped)

    assert threading.active_count() == threads
    names = [path.name for path in request_.folder.iterdir()]
    ends = [name.partition(".")[2] for name in names]
    assert set(Counter(ends).values()) <= {ends.count("run.json")}
    assert not [name for name in names if name.startswith(".")]
    assert len(run(replace(request_, resume=True)).done) == 6


def test_the_record_names_what_ran_its_own_image(
    request_: RunRequest, behind: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind(1)
    second = threading.Event()

    class Renamed(FakeBackend):
        @property
        def name(self) -> str:  # type: ignore[override]  # of a network that changes its framework
            return f"fake {len(self.seen)}"

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if len(backend.seen) > 1:
            second.set()
        return pointwise(inputs)

    backend = Renamed(network)
    labels_wait_for(second, monkeypatch)

    outcomes = with_network(replace(request_, images=request_.images[:2]), backend)

    backends = [outcome.record["backend"] for outcome in outcomes if isinstance(outcome, ImageRun)]
    assert backends == ["fake 1", "fake 2"]


def test_the_seconds_of_the_device_are_those_of_its_batches(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("bmz.predict.tiles.time.perf_counter", lambda: now[0])  # and everywhere
    monkeypatch.setattr(run_images, "threads_behind", lambda *_: 0)
    labelled = finished_plane

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        now[0] += 3
        return pointwise(inputs)

    def labels(*words: Any) -> Any:
        now[0] += 1
        return labelled(*words)

    monkeypatch.setattr(run_image, "finished_plane", labels)
    uses: list[DeviceUse] = []
    request = replace(request_, images=request_.images[:2])

    outcomes = with_network(request, FakeBackend(network, device=Device("cuda")), uses.append)

    (use,) = uses
    assert (use.device, use.computed_s, use.run_s) == ("cuda:0", 6, 8)
    assert [o.record["device_busy"] for o in outcomes if isinstance(o, ImageRun)] == [0.75, 0.75]


def test_a_backend_with_two_halves_tells_for_itself_how_long_it_computed(
    request_: RunRequest,
) -> None:
    uses: list[DeviceUse] = []

    with_network(
        replace(request_, images=request_.images[:3]), OverlappingFake(pointwise), uses.append
    )

    assert [use.computed_s for use in uses] == [5.0]  # planes, of a second each


@pytest.mark.parametrize(
    ("images", "device", "processors", "threads"),
    [(1, "cpu", 2, 0), (1, "cuda", 16, 0), (2, "cpu", 1, 0), (2, "cpu", 2, 1), (2, "cuda", 16, 4)],
)
def test_threads_are_used_where_there_is_something_to_do_meanwhile(
    images: int,
    device: Literal["cpu", "cuda"],
    processors: int,
    threads: int,
    request_: RunRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: processors)
    setup = prepare(request_)
    planned = [planned_or_failed(setup, image) for image in request_.images[:images]]

    assert run_images.threads_behind(setup, planned, Device(device)) == threads


def test_notes_come_image_by_image_and_progress_at_once() -> None:
    heard: list[str] = []
    notes = NotesInTurn(lambda e: heard.append(e.text if isinstance(e, Note) else e.stage))
    first, second = notes.begin(), notes.begin()

    second(Note("b1"))
    second(Progress("tiles", 1, 1))
    first(Note("a1"))
    notes.end()
    second(Note("b2"))
    first(Note("too late, for it failed"))
    notes.end()

    assert heard == ["tiles", "a1", "b1", "b2"]


@pytest.mark.parametrize("whole", [False, True])
def test_work_that_has_not_begun_is_left_out_after_a_fault_unless_it_must_be_done(
    whole: bool,
) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go_on.wait(LONG_S)

    def stopped() -> None:
        with Threads(1, whole=whole) as threads:
            threads(first)
            begun.wait(LONG_S)
            threads(done.set).add_done_callback(lambda _: go_on.set())
            threading.Timer(0.5, go_on.set).start()  # what is not left out is done behind the first
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()

    assert done.is_set() == whole


def test_a_claim_may_end_in_another_thread_than_it_began_in(tmp_path: Path) -> None:
    claim = claimed(tmp_path / "a")
    assert claim.__enter__()

    thread = threading.Thread(target=claim.__exit__, args=(None, None, None))
    thread.start()
    thread.join()

    with claimed(tmp_path / "a") as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_without_a_change_of_the_mask_of_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_mask: int) -> int:
        raise AssertionError("another thread would make its files with this mask")

    monkeypatch.setattr(os, "umask", refused)

    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")

    assert (tmp_path / "a.txt").read_text() == "whole"


def test_python_runs_the_next_image_while_one_is_labelled(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: 2)
    setup, second, runs = prepare(request_), threading.Event(), Counter[str]()

    def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
        runs["all"] += 1
        if runs["all"] > 1:
            second.set()
        return pointwise(inputs)

    labels_wait_for(second, monkeypatch)
    images = request_.images[:2]

    results = list(run_images.run_in_memory(setup, images, lambda: FakeBackend(network), nobody))

    assert [result.image.info.path for result in results] == list(images)


@pytest.mark.parametrize("processors", [1, 2])
def test_python_raises_what_is_wrong_with_an_image_in_its_turn(
    processors: int, request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_images, "available_cpus", lambda: processors)
    request_.images[3].write_bytes(b"no image")
    setup, backend, threads = prepare(request_), FakeBackend(pointwise), threading.active_count()
    results = run_images.run_in_memory(setup, request_.images, lambda: backend, nobody)

    shapes = [next(results).whole_labels().array.shape for _ in range(3)]
    with pytest.raises(CouldNotTell, match=r"d\.tif"):
        next(results)

    assert shapes == [(40, 50), (41, 50), (3, 40, 50)]
    assert threading.active_count() == threads


def test_results_of_python_are_the_same_with_and_without_a_look_ahead(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare(request_)
    backend = FakeBackend(pointwise)
    masks = []

    for cpus in (partial(int, 1), partial(int, 2)):
        monkeypatch.setattr(run_images, "available_cpus", cpus)
        results = run_images.run_in_memory(setup, request_.images, lambda: backend, nobody)
        masks.append([result.whole_labels().array for result in results])

    assert all(map(np.array_equal, *masks))
    assert all(mask.any() for mask in masks[0])
