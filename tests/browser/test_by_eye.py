"""The lesson by eye, done in Chromium and in Firefox as its chapter says."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs import by_eye
from docs.panels import read_small
from tests.browser.test_accessibility import TOOLS
from tests.conftest import NEEDS

pytest.importorskip("onnxruntime")
pytest.importorskip("playwright")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason=f"{NEEDS} /proc")

LEAST, MOST = 30, 50
"""Nuclei of the image, or cells."""


class Firefox:
    """What the lesson asks of a page of Playwright, in Firefox by way of Puppeteer."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program
        self.keyboard = self

    def call(self, name: str, *words: object) -> Any:
        """Have something done, and give the answer."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps([name, *words]) + "\n")
        self._program.stdin.flush()
        told = json.loads(self._program.stdout.readline())
        assert "error" not in told, told
        return told["answer"]

    def __getattr__(self, name: str) -> Any:
        return lambda *words: self.call(name, *words)

    def wait_for_timeout(self, milliseconds: float) -> None:
        time.sleep(milliseconds / 1000)

    def screenshot(self, **_form: str) -> bytes:
        return base64.b64decode(self.call("screenshot"))


@contextmanager
def firefox_page(command: Sequence[str]) -> Iterator[Any]:
    """Start Firefox, give an empty page, and see that no script of the page has failed."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        page = Firefox(program)
        page.window(by_eye.WINDOW)
        yield page
        assert page.faults() == []
        assert program.stdin is not None
        program.stdin.close()
        program.wait(60)


@pytest.fixture(scope="module")
def firefox() -> list[str]:
    """Give the command that drives Firefox, or skip where something of it is absent."""
    node, browser = shutil.which("node"), shutil.which("firefox-esr") or shutil.which("firefox")
    if node is None or browser is None or not (TOOLS / "puppeteer-core").is_dir():
        pytest.skip(f"{NEEDS} Firefox, and Puppeteer, which make page-access installs by npm")
    return [node, str(Path(__file__).with_name("firefox.mjs")), str(TOOLS.parent), browser]


def check(done: by_eye.Lesson, name: str) -> None:
    """Hold a lesson that was done to what its chapter says."""
    told = f"{name}: {done.clicks} clicks, {done.processor_s:.1f} s of processor time"
    sys.stdout.write(f"{told}\n")  # shown by pytest -rP
    first, right, fifth, back, thresholds, nuclei, swiped, saved = done.objects
    assert done.clicks <= 8
    assert right == back == thresholds == swiped == saved == 41
    assert first != right
    assert fifth < 20
    assert LEAST <= nuclei <= MOST
    assert "membranes_nuclei.labels.tif" in done.saved
    for picture in done.pictures.values():
        assert picture.shape[:2] == (by_eye.WINDOW["height"], by_eye.WINDOW["width"])


@needs_proc
@pytest.mark.slow
def test_the_lesson_by_eye_takes_8_clicks_in_chromium(
    shared: Path, chromium: str, tmp_path: Path
) -> None:
    done = by_eye.lesson(shared, tmp_path, by_eye.chromium_page(chromium))

    check(done, "Chromium")
    page = by_eye.PAGE.read_text(encoding="utf-8")
    for step, objects in zip(by_eye.STEPS, done.objects, strict=True):
        assert step.words.format(objects=objects) in page
    for name, picture in done.pictures.items():
        kept = read_small(by_eye.PAGE.parent / f"by-eye-{name}.png")
        assert np.mean(np.abs(kept.astype(int) - picture) > 48) <= 0.05


@needs_proc
@pytest.mark.slow
def test_the_lesson_by_eye_takes_8_clicks_in_firefox(
    shared: Path, firefox: list[str], tmp_path: Path
) -> None:
    check(by_eye.lesson(shared, tmp_path, firefox_page(firefox)), "Firefox")


def test_the_chapter_by_eye_shows_the_steps_and_pictures_of_its_script() -> None:
    page = by_eye.PAGE.read_text(encoding="utf-8")

    for step in by_eye.STEPS:
        assert all(part in page for part in step.words.split("{objects}"))
        if step.picture:
            assert f"![{step.caption}](by-eye-{step.picture}.png)" in page
            picture = by_eye.PAGE.parent / f"by-eye-{step.picture}.png"
            assert picture.stat().st_size <= 250_000
