"""``bmz run --watch`` as a command: what it refuses, what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bmz.cli.main import Terminated, status_of
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PLANE = np.zeros((48, 48), np.uint8)
PLANE[4:10, 4:10] = PLANE[20:26, 12:30] = 1


@pytest.fixture
def net(tmp_path: Path) -> str:
    return str(write_package(tmp_path / "net", description()).parent)


@pytest.fixture
def day(tmp_path: Path) -> Path:
    (tmp_path / "day").mkdir()
    tifffile.imwrite(tmp_path / "day" / "a.tif", PLANE)
    return tmp_path / "day"


@pytest.fixture
def ends_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the signal to end come in a pause between rounds."""

    def set_up(*rounds: Callable[[], object], by: BaseException | None = None) -> None:
        pauses = iter(rounds)

        def pause(_seconds: float) -> None:
            action = next(pauses, None)
            if action is None:
                raise by or KeyboardInterrupt
            action()

        monkeypatch.setattr("bmz.cli.watch.time.sleep", pause)

    return set_up


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--watch", "--plan"], "--plan prints what would be done, and stops"),
        (["--watch", "--workers", "2"], "leave out --workers"),
        (["--watch", "--scheduler", "tcp://h:1"], "one network"),
        (["--watch", "--resume"], "--watch already continues what an earlier call left unfinished"),
        (["--watch", "--preview"], "--preview draws at the end"),
        (["--watch", "--from", "a.run.json"], "--from repeats the run of one image"),
        (["--settle", "3"], "--settle needs --watch"),
        (["--watch", "more"], "2 paths were given [watch.no-folder]"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_a_sentence(
    words: list[str], told: str, net: str, day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(["run", net, str(day), "-o", str(day / "out"), *words])

    assert status == 2
    assert told in capsys.readouterr().err
    assert not (day / "out").exists()


def test_the_document_at_the_end_is_whole_and_the_status_that_of_a_run(
    net: str, day: Path, ends_after: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    ends_after((day / "bad.tif").touch, lambda: None)

    status = status_of(
        ["run", net, str(day), "-o", str(day / "out"), "--watch", "--settle", "0", "--json"]
    )

    told = capsys.readouterr()
    document = json.loads(told.out)
    assert status == 1
    assert document["schema"] == "bmz.runs/1"
    assert [Path(run["image"]).name for run in document["runs"]] == ["a.tif"]
    assert [row["code"] for row in document["failed"]] == ["image.empty"]
    assert "not complete yet, will be run when it changes: " in told.err


@pytest.mark.parametrize("by", [KeyboardInterrupt(), Terminated(signal.SIGTERM)])
def test_each_image_is_told_when_it_is_done_and_all_are_counted_at_the_end(
    by: BaseException, net: str, day: Path, ends_after: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before: list[str] = []

    def later() -> None:
        before.append(capsys.readouterr().out)
        (day / "text.tif").write_text("no image")

    ends_after(later, by=by)

    status = status_of(["run", net, str(day), "-o", str(day / "out"), "--watch", "--settle", "0"])

    told = capsys.readouterr()
    assert status == 1
    assert before[0].startswith(f"{day / 'a.tif'}: 2 objects")
    assert told.out == "1 image done\n"
    assert "1 of 2 images failed: text.tif" in told.err


def test_what_had_no_turn_is_named_at_the_end(
    net: str, day: Path, ends_after: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    ends_after()

    status = status_of(["run", net, str(day), "-o", str(day / "out"), "--watch", "--settle", "9"])

    told = capsys.readouterr()
    assert (status, told.out) == (0, "0 images done\n")
    assert "not run yet, left for the next call: a.tif" in told.err


def comes_true(condition: Callable[[], bool], within_s: float = 120) -> bool:
    until = time.monotonic() + within_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def appears(path: Path) -> bool:
    return comes_true(path.exists)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_files_that_are_written_slowly_are_run_whole_and_ctrl_c_ends_with_all_of_them(
    net: str, day: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "b.tif", np.kron(PLANE, np.ones((40, 40), np.uint8)))
    content = (tmp_path / "b.tif").read_bytes()
    # a shell that starts the tests in the background has SIGINT ignored
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bmz.cli.main import main; main()"
    )
    words = ["run", net, str(day), "-o", str(day / "out"), "--watch", "--settle", "2", "--json"]
    told = tmp_path / "told.txt"
    with told.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=file, text=True
        )
    try:
        first = appears(day / "out" / "a.run.json")
        with (day / "slow.tif").open("wb") as file:  # in parts that follow each other closely
            for start in range(0, len(content), len(content) // 8):
                file.write(content[start : start + len(content) // 8])
                file.flush()
                time.sleep(0.4)
        (day / "half.tif").write_bytes(content[: len(content) // 2])
        both = appears(day / "out" / "slow.run.json")
        half = comes_true(lambda: "half.tif' ends too early" in told.read_text())
        (day / "half.tif").write_bytes(content)
        all_three = appears(day / "out" / "half.run.json")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    runs = json.loads(out)["runs"]
    assert (first, both, half, all_three) == (True, True, True, True)
    assert [Path(run["image"]).name for run in runs] == ["a.tif", "slow.tif", "half.tif"]
    assert [run["image_shape"] for run in runs[1:]] == [[1920, 1920]] * 2
    assert process.returncode == 0
    assert len((day / "out" / "objects.csv").read_text().splitlines()) > len(runs)
