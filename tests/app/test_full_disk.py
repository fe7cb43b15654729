"""A disk that takes no more, a folder that vanishes, and two runs into one folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run as run_process

import numpy as np
import pytest

import bmz.engine.run_image
from bmz.app.run import run
from bmz.base.errors import BmzError
from bmz.base.files import FolderNotWritable, claimed, disk_faults_told, reserve
from bmz.base.progress import Event, Progress
from bmz.engine import run_images
from bmz.engine.request import RunRequest
from bmz.testing.package import description, write_package
from bmz.write.names import OutputClaimed, OutputExists

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description(halo=4)).parent)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, ...]:
    noise = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{name}.npy" for name in "ab")
    for path in paths:
        np.save(path, noise.random((64, 64), np.float32))
    return paths


def test_files_that_the_disk_does_not_take_fail_one_by_one(
    model: str, images: tuple[Path, ...], tmp_path: Path
) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
    limited += "from bmz.cli.main import main; main(sys.argv[1:])"
    words = ["run", model, *map(str, images), "-o", "out", "--save", "raw", "--recipe", "none"]

    ended = run_process(
        [sys.executable, "-c", limited, *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 3
    assert ended.stderr.count("[output.unwritable]") == len(images)
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("memory_gb", [None, 1e-9], ids=["in one piece", "in parts"])
def test_a_folder_that_vanishes_fails_its_image_alone(
    memory_gb: float | None,
    model: str,
    images: tuple[Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    # the next image, begun meanwhile, would make the folder again
    monkeypatch.setattr(run_images, "threads_behind", lambda *_: 0)

    def spoil_first(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "tiles" and not gone:
            gone.append(True)
            shutil.rmtree(folder)

    gone: list[bool] = []
    request = RunRequest(
        model=model, images=images, folder=folder, save=frozenset({"raw"}), recipe="none",
        memory_gb=memory_gb,
    )  # fmt: skip

    summary = run(request, spoil_first)

    assert gone
    assert summary.failed[0].error.code == "output.unwritable"
    assert str(folder) in str(summary.failed[0].error)


def test_a_file_that_our_own_code_forgot_is_still_our_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_faults_told(tmp_path):
        (tmp_path / "never-written.csv").stat()


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "too large"),
        (OSError("540672 requested and 5064 written"), "accepted only 5064 of 540672 values"),
    ],
    ids=["full", "limited", "NumPy"],
)
def test_what_a_disk_refuses_is_told_with_its_reason(why: OSError, words: str) -> None:
    with pytest.raises(FolderNotWritable, match=words), disk_faults_told():
        raise why


def test_space_for_a_file_that_is_written_through_memory_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    with path.open("wb") as file:
        file.truncate(2**20)

    reserve(path, 2**20)

    if hasattr(os, "posix_fallocate"):
        assert path.stat().st_blocks * 512 >= 2**20
    assert path.stat().st_size == 2**20


def test_one_process_alone_holds_a_claim_and_leaves_no_file(tmp_path: Path) -> None:
    with claimed(tmp_path / "a") as first, claimed(tmp_path / "a") as second:
        assert (first, second) == (True, False)

    assert list(tmp_path.iterdir()) == []


def _during(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]) -> None:
    whole = bmz.engine.run_image.predicted_image

    def meanwhile(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(bmz.engine.run_image, "predicted_image", whole)
        deed()
        return whole(*args, **kwargs)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(bmz.engine.run_image, "predicted_image", meanwhile)


def test_a_second_run_into_the_same_files_is_told_and_replaces_nothing(
    model: str, images: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunRequest(
        model=model, images=images[:1], folder=tmp_path / "out", save=frozenset({"raw"}),
        recipe="none",
    )  # fmt: skip
    second: list[BmzError] = []
    _during(monkeypatch, lambda: second.extend(f.error for f in run(request).failed))

    first = run(request)

    assert [type(error) for error in second] == [OutputClaimed]
    assert len(first.done) == 1
    assert sorted(p.name for p in request.folder.iterdir()) == ["a.raw.tif", "a.run.json"]


def test_files_that_appeared_since_the_run_began_are_not_replaced(
    model: str, images: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunRequest(
        model=model, images=images, folder=tmp_path / "out", save=frozenset({"raw"}),
        recipe="none",
    )  # fmt: skip
    record = request.folder / "b.run.json"
    _during(monkeypatch, lambda: record.write_text(json.dumps("of another run")))

    summary = run(request)

    assert [type(failure.error) for failure in summary.failed] == [OutputExists]
    assert record.read_text() == '"of another run"'


def test_what_another_run_finished_meanwhile_is_resumed(
    model: str, images: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunRequest(
        model=model, images=images, folder=tmp_path / "out", save=frozenset({"raw"}),
        recipe="none", resume=True,
    )  # fmt: skip
    seen: list[int] = []

    def other() -> None:  # takes the second image while the first is under way
        run(RunRequest(**{**vars(request), "images": images[1:]}))
        seen.append((request.folder / "b.run.json").stat().st_ino)

    _during(monkeypatch, other)
    summary = run(request)

    assert len(summary.done) == len(images)
    assert (request.folder / "b.run.json").stat().st_ino == seen[0]
