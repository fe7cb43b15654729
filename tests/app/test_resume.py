"""A run that was killed goes on, and ends with the bytes of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from bmz.app.run import run
from bmz.base.files import claimed, unfinished
from bmz.engine.earlier_runs import remove_leftovers
from bmz.engine.request import RunRequest
from bmz.engine.run_image import ImageRunner
from bmz.engine.setup import PlannedImage
from bmz.results.images import ImageRun
from bmz.testing.package import description, write_package
from bmz.write.outputs import CRATE, saved_kinds

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

COMPARED = (".labels.tif", ".overlay.png", ".objects.csv")


def images(folder: Path, count: int) -> tuple[Path, ...]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        image = (rng.random((120, 130)) > 0.7).astype(np.uint8)
        tifffile.imwrite(folder / f"{number:02}.tif", image, metadata={"axes": "YX"})
    return tuple(sorted(folder.iterdir()))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.endswith(COMPARED)}


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    model = str(write_package(tmp_path / "model", description(halo=4)).parent)
    return RunRequest(model, images(tmp_path / "in", 5), tmp_path / "out")


def test_finished_images_are_left_out_and_the_others_are_run(
    request_: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = replace(request_, images=request_.images[:3])
    run(some)
    ran: list[str] = []
    real = ImageRunner.begin

    def noted(runner: ImageRunner, planned: PlannedImage, *rest: Any) -> Future[ImageRun]:
        ran.append(planned.image.name)
        return real(runner, planned, *rest)

    monkeypatch.setattr(ImageRunner, "begin", noted)

    summary = run(replace(request_, resume=True))

    assert ran == ["03.tif", "04.tif"]
    assert [done.image for done in summary.done] == list(request_.images)
    assert all(done.objects for done in summary.done)


def test_other_words_another_image_or_a_missing_file_run_it_again(request_: RunRequest) -> None:
    first = replace(request_, images=request_.images[:1])
    (before,) = run(first).done
    stamp = before.files["record"].stat().st_mtime_ns

    def again(**words: object) -> int:
        (done,) = run(replace(first, resume=True, **words)).done  # type: ignore[arg-type]  # words of the request
        return done.files["record"].stat().st_mtime_ns

    assert again() == stamp
    assert again(settings={"min_size": "4"}) != stamp
    before.files["overlay"].unlink()
    assert again(settings={"min_size": "4"}) > stamp
    newest = again(settings={"min_size": "4"})
    tifffile.imwrite(first.images[0], np.ones((40, 40), np.uint8), metadata={"axes": "YX"})
    assert again(settings={"min_size": "4"}) > newest
    before.files["record"].write_text("{")
    assert again(settings={"min_size": "4"}) > newest


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    mine = tmp_path / f"{unfinished('writing')}x"
    mine.mkdir()
    (tmp_path / f".scratch-{dead}-x").mkdir()
    (tmp_path / f".writing-{dead}-a.tif").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"")

    remove_leftovers(tmp_path, "writing")
    before = {path.name for path in tmp_path.iterdir()}
    remove_leftovers(tmp_path, "scratch")

    assert before == {mine.name, "other", f".scratch-{dead}-x"}
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "other"}


def test_a_claim_of_a_process_that_was_killed_is_cleared_and_one_that_is_held_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / ".left.lock").touch()

    with claimed(tmp_path / "held"):
        remove_leftovers(tmp_path, "writing")
        left = [path.name for path in tmp_path.iterdir()]

    assert left == [".held.lock"]


def killed_after(command: list[str], seconds: float) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("memory", ["1000", "0"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    memory: str, request_: RunRequest, tmp_path: Path
) -> None:
    # a crate tells when each run ended, and the recipe has no polygons
    kinds = [kind for kind in saved_kinds() if kind not in {CRATE, "rois:subpixel"}]
    folder = tmp_path / "unbroken"
    run(replace(request_, folder=folder, memory_gb=float(memory), save=frozenset(kinds)))
    command = [
        sys.executable, "-m", "bmz", "run", request_.model, *map(str, request_.images),
        "-o", str(tmp_path / "broken"), "--resume", "--memory", memory, "--save", ",".join(kinds),
    ]  # fmt: skip
    for seconds in np.random.default_rng(1).uniform(0.8, 2.2, 4):
        killed_after(command, float(seconds))

    subprocess.run(command, check=True, capture_output=True, env={**os.environ})

    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
    assert not [p for p in (tmp_path / "broken").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tiles of an image", "forty images"])
def test_runs_killed_at_thirty_moments_end_with_the_same_bytes(what: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(1600, 1500)] if what == "tiles of an image" else [(256, 256)] * 40
    (tmp_path / "in").mkdir()
    for number, size in enumerate(sizes):
        pixels = ndimage.gaussian_filter(rng.random(size), 5) * 40_000 - 18_000
        path = tmp_path / f"in/{number:02}.tif"
        tifffile.imwrite(path, pixels.clip(0).astype(np.uint16), metadata={"axes": "YX"})
    words = ["--memory", "0", "--tile", "128"] if len(sizes) == 1 else []
    images = map(str, sorted((tmp_path / "in").iterdir()))
    command = [sys.executable, "-m", "bmz", "run", "starter/nuclei", *images, *words, "--resume"]
    start = time.perf_counter()
    subprocess.run([*command, "-o", str(tmp_path / "unbroken")], check=True, capture_output=True)
    took_s = time.perf_counter() - start
    unbroken = contents(tmp_path / "unbroken")

    for number, moment in enumerate(rng.uniform(0.1, 1, 30)):
        folder = tmp_path / f"broken{number}"
        killed_after([*command, "-o", str(folder)], moment * took_s)
        subprocess.run([*command, "-o", str(folder)], check=True, capture_output=True)

        assert contents(folder) == unbroken
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]
        shutil.rmtree(folder)
