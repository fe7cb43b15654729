"""Images among several processes: the same results, and nothing is lost when one dies."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from bmz.app.run import run
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.progress import Event, Note, Progress
from bmz.engine import cluster, cluster_worker
from bmz.engine.cluster_worker import ImageJob
from bmz.engine.request import RunRequest
from bmz.engine.setup import prepare
from bmz.predict.frameworks import FRAMEWORKS
from bmz.results.images import ImageFailure, RunSummary
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask's own event loop and ports

COMPARED = (".labels.tif", ".overlay.png", ".objects.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.endswith(COMPARED)}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    """Give a model, six images, and one that is broken, which no test changes."""
    folder = tmp_path_factory.mktemp("inputs")
    model = str(write_package(folder / "model", description(halo=4)).parent)
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        image = (rng.random((90, 80)) > 0.7).astype(np.uint8)
        tifffile.imwrite(folder / f"in/{number}.tif", image, metadata={"axes": "YX"})
    (folder / "in" / "broken.tif").write_bytes(b"II*\0no tiff")
    return RunRequest(model, tuple(sorted((folder / "in").iterdir())), folder / "alone")


@pytest.fixture(scope="module")
def alone(inputs: RunRequest) -> RunSummary:
    """Run all images in this process, into the folder of `inputs`."""
    return run(inputs)


@pytest.fixture
def request_(inputs: RunRequest, tmp_path: Path) -> RunRequest:
    return replace(inputs, images=inputs.images[:6], folder=tmp_path / "out")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Start two workers; one that a test kills is started again by its nanny."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None
    ) as local:
        yield local.scheduler_address


class Killer:
    """Kills a worker when it hears of the first step of a stage."""

    def __init__(self, scheduler: str, stage: str) -> None:
        self.killed: list[int] = []
        self._scheduler, self._stage = scheduler, stage

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, Progress) and event.stage == self._stage and not self.killed:
            with distributed.Client(self._scheduler) as client:
                pids = client.run(os.getpid)
            self.killed.append(next(iter(pids.values())))
            os.kill(self.killed[0], signal.SIGKILL)


def test_two_workers_give_what_one_process_gives(
    inputs: RunRequest, alone: RunSummary, tmp_path: Path
) -> None:
    told: list[Event] = []

    shared_out = run(replace(inputs, workers=2, folder=tmp_path / "out"), told.append)

    assert contents(tmp_path / "out") == contents(inputs.folder)
    assert [one.image for one in shared_out.outcomes] == list(inputs.images)
    assert [one.objects for one in shared_out.done] == [one.objects for one in alone.done]
    assert [f.error.code for f in shared_out.failed] == [f.error.code for f in alone.failed]
    assert sum(isinstance(e, Progress) and e.stage == "files" for e in told) == 6
    tiles = [(e.done, e.total) for e in told if isinstance(e, Progress) and e.stage == "tiles"]
    assert tiles == [(done, 6) for done in range(1, 7)]
    notes = [e.text for e in told if isinstance(e, Note)]
    assert sum("to float32 without loss" in text for text in notes) == 6


def test_workers_call_images_as_the_user_of_each_call_does(
    request_: RunRequest, scheduler: str, tmp_path: Path
) -> None:
    records = []
    for number, image in enumerate(request_.images[:2]):
        names = {image: f"https://images.org/{number}.tif"}
        out = tmp_path / f"out{number}"
        asked = replace(request_, images=(image,), names=names, scheduler=scheduler, folder=out)
        records += [done.record["image"] for done in run(asked).done]

    assert records == ["https://images.org/0.tif", "https://images.org/1.tif"]


@pytest.mark.usefixtures("alone")
def test_workers_of_a_scheduler_run_the_images(
    request_: RunRequest, inputs: RunRequest, scheduler: str, tmp_path: Path
) -> None:
    summary = run(replace(request_, scheduler=scheduler))

    assert len(summary.done) == 6
    assert contents(tmp_path / "out") == contents(inputs.folder)


@pytest.mark.parametrize(
    ("images", "tasks", "most"), [(0, 0, 0), (6, 6, 1), (1025, 513, 2), (10_000, 1250, 8)]
)
def test_many_images_are_dealt_out_some_at_a_time(images: int, tasks: int, most: int) -> None:
    jobs = [ImageJob(Path(f"{number}.tif"), {}) for number in range(images)]

    parts = cluster.dealt_out(jobs)

    assert len(parts) == tasks
    assert max(map(len, parts), default=0) == most
    assert [job for part in parts for job in part] == jobs


def test_a_task_carries_the_names_of_its_own_images(
    request_: RunRequest, scheduler: str, tmp_path: Path
) -> None:
    names = {image: f"https://images.org/{image.name}" for image in request_.images}

    def refused(request: RunRequest, jobs: Sequence[ImageJob]) -> list[ImageFailure]:
        error = AnswerIsNo(str(sorted(request.names.values())), hint="", code="a.b")
        return [ImageFailure(job.image, error) for job in jobs]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "run_in_worker", refused)
        asked = replace(request_, names=names, scheduler=scheduler, folder=tmp_path / "out")
        carried = [failure.error.message for failure in run(asked).failed]

    assert carried == [str([names[image]]) for image in request_.images]


@pytest.mark.usefixtures("alone")
def test_a_worker_that_is_killed_loses_nothing(
    request_: RunRequest, inputs: RunRequest, scheduler: str, tmp_path: Path
) -> None:
    kill_one = Killer(scheduler, "files")

    summary = run(replace(request_, scheduler=scheduler), kill_one)

    assert kill_one.killed
    assert len(summary.done) == 6
    assert contents(tmp_path / "out") == contents(inputs.folder)


@pytest.mark.usefixtures("alone")
def test_a_worker_that_dies_with_several_images_in_hand_loses_none(
    request_: RunRequest,
    inputs: RunRequest,
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = inputs.images[-1]
    all_ = replace(request_, images=(bad, *request_.images))
    monkeypatch.setattr(cluster, "SINGLE_TASKS", 2)
    kill_one = Killer(scheduler, "tiles")

    summary = run(replace(all_, scheduler=scheduler), kill_one)

    assert kill_one.killed
    assert [failure.image for failure in summary.failed] == [bad]
    assert [done.image for done in summary.done] == list(request_.images)
    assert contents(tmp_path / "out") == contents(inputs.folder)


@pytest.fixture(scope="module")
def large_input(inputs: RunRequest, tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(1)
    pixels = (ndimage.gaussian_filter(rng.random((2, 400, 380)), (0, 3, 3)) * 2000).astype("uint16")
    image = folder / "large.tif"
    tifffile.imwrite(image, pixels, metadata={"axes": "TYX"})
    words = {"threshold": "1040"}
    return replace(
        inputs, images=(image,), tile=64, memory_gb=0, settings=words, folder=folder / "alone"
    )


@pytest.fixture(scope="module")
def large_alone(large_input: RunRequest) -> RunSummary:
    """Run the large image in this process, into the folder of `large_input`."""
    return run(large_input)


@pytest.fixture
def large(large_input: RunRequest, tmp_path: Path) -> RunRequest:
    return replace(large_input, folder=tmp_path / "out")


def test_tiles_of_one_image_are_dealt_out(
    large: RunRequest, large_input: RunRequest, large_alone: RunSummary, scheduler: str
) -> None:
    (alone,) = large_alone.done
    told: list[Event] = []

    (done,) = run(replace(large, scheduler=scheduler), told.append).done

    assert contents(large.folder) == contents(large_input.folder)
    assert done.objects == alone.objects
    assert (done.objects or 0) > 50
    assert done.record["backend"] == alone.record["backend"]
    tiles = [e for e in told if isinstance(e, Progress) and e.stage == "tiles"]
    assert tiles[-1].done == tiles[-1].total
    assert not [p for p in large.folder.iterdir() if p.name.startswith(".")]


@pytest.mark.usefixtures("large_alone")
def test_a_worker_that_dies_within_an_image_loses_nothing(
    large: RunRequest, large_input: RunRequest, scheduler: str
) -> None:
    kill_one = Killer(scheduler, "tiles")

    summary = run(replace(large, scheduler=scheduler), kill_one)

    assert kill_one.killed
    assert len(summary.done) == 1
    assert contents(large.folder) == contents(large_input.folder)


def test_what_fails_in_a_worker_is_told_of_the_image(
    large: RunRequest, scheduler: str, tmp_path: Path
) -> None:
    whole = large.images[0].read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole[: len(whole) // 2])

    summary = run(replace(large, images=(cut, *large.images), scheduler=scheduler))

    assert [one.image.name for one in summary.failed] == ["cut.tif"]
    assert [one.image.name for one in summary.done] == ["large.tif"]


@pytest.mark.parametrize(
    ("word", "gpus", "worker", "given"),
    [
        ("auto", 2, 3, "cuda:1"),
        ("cuda", 4, 0, "cuda:0"),
        ("auto", 1, 3, "auto"),
        ("cuda:2", 4, 1, "cuda:2"),
        ("cpu", 4, 1, "cpu"),
        ("auto", 4, "SLURMCluster-0", "auto"),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(word: str, gpus: int, worker: object, given: str) -> None:
    assert cluster_worker.own_gpu(word, gpus, worker) == given


def test_a_scheduler_that_is_not_there_is_named(request_: RunRequest) -> None:
    with pytest.raises(cluster.SchedulerAbsent, match=r"\[cluster\.no-scheduler\]"):
        run(replace(request_, scheduler="tcp://127.0.0.1:9"))


def test_the_file_of_a_scheduler_names_it(
    request_: RunRequest, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FILE_WITHIN_S", 0.3)
    file = tmp_path / "scheduler.json"
    with pytest.raises(cluster.SchedulerAbsent):
        run(replace(request_, scheduler=str(file)))
    file.write_text(json.dumps({"address": scheduler}))

    summary = run(replace(request_, scheduler=str(file)))

    assert len(summary.done) == 6


@pytest.mark.parametrize("content", ["[]", "{}", "[" * 100_000, "no JSON", '"tcp"'])
def test_a_file_that_names_no_scheduler_is_told(
    content: str, request_: RunRequest, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(content)

    with pytest.raises(cluster.SchedulerAbsent, match=r"scheduler\.json"):
        run(replace(request_, scheduler=str(file)))


def test_tls_without_certificates_is_told(request_: RunRequest) -> None:
    with pytest.raises(cluster.SchedulerAbsent, match="TLS") as refused:
        run(replace(request_, scheduler="tls://127.0.0.1:9"))

    assert "Who may reach the scheduler" in refused.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there alone")
def test_workers_of_a_computer_share_what_is_imported(request_: RunRequest) -> None:
    setup = prepare(replace(request_, workers=2))

    with ExitStack() as stack:
        client: Any = cluster._client(setup, stack)
        parents = set(client.run(os.getppid).values())
        loaded = client.run(lambda: "bmz.engine.cluster_worker" in sys.modules)

    assert len(parents) == 1
    assert os.getpid() not in parents
    assert list(loaded.values()) == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="it lists the threads of a process there")
@pytest.mark.parametrize(
    "module", sorted({entry.module for entry in FRAMEWORKS.values() if entry.forks})
)
def test_a_framework_from_which_is_forked_starts_no_thread(module: str) -> None:
    pytest.importorskip(module)
    program = f"import os, {module}; print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, **cluster.ONE_THREAD}

    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, capture_output=True, check=True)

    assert told.stdout.strip() == b"1"


def test_workers_that_die_while_they_start_are_told(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", dies)

    with pytest.raises(cluster.WorkersDoNotStart, match="Nanny failed to start"):
        run(replace(request_, workers=2))


@pytest.mark.slow
@pytest.mark.parametrize("memory_gb", [None, 1e-9], ids=["images", "tiles"])
def test_a_scheduler_that_dies_fails_the_images_that_are_left(
    memory_gb: float | None, request_: RunRequest, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    words = ["--scheduler-file", str(file), "--no-dashboard"]
    started = [
        subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *words]),
        subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *words]),
    ]

    def kill(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "files":
            started[0].kill()

    try:
        summary = run(replace(request_, scheduler=str(file), memory_gb=memory_gb), kill)
    finally:
        for process in started:
            process.kill()
            process.wait()

    assert summary.done
    assert summary.failed
    assert {failure.error.code for failure in summary.failed} == {"cluster.scheduler-lost"}


def test_finished_images_are_not_dealt_out_again(request_: RunRequest, scheduler: str) -> None:
    run(replace(request_, images=request_.images[:4]))
    stamps = {p: p.stat().st_mtime_ns for p in request_.folder.glob("*.labels.tif")}

    summary = run(replace(request_, scheduler=scheduler, resume=True))

    assert len(summary.done) == 6
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


@pytest.mark.parametrize(
    "error",
    [
        cluster.WorkerLost(Path("a.tif"), ValueError("x")),
        CouldNotTell("m", hint="h", code="c.d"),
    ],
)
def test_errors_travel_between_processes(error: CouldNotTell) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301  (made a moment ago)

    assert type(back) is type(error)
    assert (str(back), back.hint, back.code) == (str(error), error.hint, error.code)
