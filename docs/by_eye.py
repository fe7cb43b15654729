"""Do the chapter "By eye" of the lesson, and write it: ``python -m docs.by_eye ../shared``.

Chromium is driven as a reader would: by clicks, which are counted, and by keys. Numbers, processor
time and pictures of the chapter are those of that run.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from docs.panels import Picture, write_small
from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parent
PAGE = DOCS / "tutorial" / "lesson.md"
MARKS = "<!-- by eye: python -m docs.by_eye -->\n", "<!-- end of by eye -->\n"

IMAGE = "xyc_8bit__membranes_nuclei.tif"
WINDOW = {"width": 1280, "height": 800}
PATIENCE_MS = 120_000


@dataclass
class Hand:
    """What a reader does to the page; clicks are counted, keys are not.

    Parameters
    ----------
    page : of Playwright, or what stands for it in another browser
    clicks : so far
    """

    page: Page
    clicks: int = 0

    def click(self, what: str) -> None:
        """Click, and wait until no network runs."""
        self.page.click(what)
        self.clicks += 1
        self.wait()

    def type(self, text: str) -> None:
        """Type over what the field that has the keyboard holds."""
        before = self.page.inner_text("#results")
        self.press("Control+a")
        self.page.keyboard.type(text)
        self.press("Enter")
        self.until(lambda: self.page.inner_text("#results") != before)
        self.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds.

        Raises
        ------
        TimeoutError
            It does not in all the time that there is.
        """
        latest = time.monotonic() + PATIENCE_MS / 1000
        while not condition():
            if time.monotonic() > latest:
                raise TimeoutError(self.page.inner_text("body"))
            self.page.wait_for_timeout(50)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key so many times."""
        for _ in range(times):
            self.page.keyboard.press(key)

    def wait(self) -> None:
        """Wait until the page shows what the last step led to."""
        self.page.wait_for_timeout(400)  # a number that was typed is waited for, whether more come
        self.page.wait_for_selector("body:not([data-busy])")
        self.until(
            lambda: not self.page.evaluate("document.querySelectorAll('[aria-busy=true]').length")
        )

    def objects(self) -> int:
        """Read the count."""
        shown = re.match(r"\d+", self.page.inner_text("#count"))
        return int(shown[0]) if shown else 0

    def picture(self) -> Picture:
        """Take a picture of the window."""
        self.page.wait_for_timeout(500)  # the mask and the rest of the view are on their way
        image = Image.open(io.BytesIO(self.page.screenshot(type="png")))
        return np.asarray(image.convert("RGB"))


def _nothing(_hand: Hand) -> None:
    pass


def _size(hand: Hand, number: str) -> None:
    if hand.page.evaluate("document.activeElement.id") != "scale-number":
        hand.click("#scale-number")
    hand.type(number)


def _thresholds(hand: Hand) -> None:
    hand.click("#set-cellprob_threshold-number")
    for number in ("4", "0"):
        hand.type(number)


def _nuclei(hand: Hand) -> None:
    hand.click("#result-1")
    hand.click("#only-1")


def _swipe(hand: Hand) -> None:
    hand.click("#result-0")
    hand.click("#swipe-1")
    hand.press(".", 2)


def _save(hand: Hand) -> None:
    hand.click("#save")
    hand.until(lambda: "saved in" in hand.page.inner_text("#command"))


@dataclass(frozen=True)
class Step:
    """What is done, and said of it; `{objects}` is the count after it."""

    words: str
    act: Callable[[Hand], None]
    picture: str = ""
    caption: str = ""


STEPS = (
    Step(
        "The page opens with the image, and the first model has run: {objects} objects. That looks "
        "almost right. But the page warns as `bmz check` does: cells are twice as large as those "
        "that the network knows.",
        _nothing,
    ),
    Step(
        "Click *Do this* beside the warning: {objects} objects, an outline around every cell. "
        "*Object diameter* shows 60 px now.",
        partial(Hand.click, what="#findings .warning button"),
        "right",
        "cells with their outlines, and the settings beside them",
    ),
    Step(
        "Click the number of *object diameter*, and type 12: {objects} ragged outlines, none of "
        "which is a cell. The network is the same; it was told that cells are a fifth as large.",
        partial(_size, number="12"),
        "fifth",
        "ragged outlines in a few of the cells, at an object diameter of 12 px",
    ),
    Step("Type 60: {objects} objects are back.", partial(_size, number="60")),
    Step(
        "Click the number of `cellprob_threshold`, type 4, and look; type 0 again: {objects} "
        "objects. The sliders beside the numbers do the same while you move them: the network is "
        "not run again.",
        _thresholds,
    ),
    Step(
        "Click *starter/nuclei*: the image has two channels, and that model wants one. Click "
        "*only 1*, the channel of nuclei: {objects} objects.",
        _nuclei,
    ),
    Step(
        "Click *cellpose-cyto* again, then *Swipe* beside *starter/nuclei*. The handle in the "
        "picture, or the keys `,` and `.`, move the border: cells on the left, nuclei on the "
        "right. Where a cell has no nucleus, or two, one of the models is wrong.",
        _swipe,
        "swipe",
        "outlines of cells on the left of the handle and of nuclei on its right",
    ),
    Step(
        "Click *Save*: the {objects} cells are written as `bmz run` writes them, and the page "
        "shows the command that does it again.",
        _save,
    ),
)


@dataclass
class Lesson:
    """What the lesson took, and showed."""

    objects: list[int] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    clicks: int = 0
    processor_s: float = 0.0
    saved: list[str] = field(default_factory=list)


def processor_s() -> float:
    """Give the processor time of this process and of all below it, ended or not."""
    ticks, parents = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        number = int(status.parent.name)
        parents[number] = int(words[1])
        ticks[number] = sum(map(int, words[11:15]))
    family = {os.getpid()}
    for _ in parents:  # children come after their parents, but for numbers that were used again
        grown = {number for number, parent in parents.items() if parent in family} | family
        if grown == family:
            break
        family = grown
    return sum(ticks.get(number, 0) for number in family) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder on this computer, and give their address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def opened(shared: Path, folder: Path) -> Iterator[str]:
    """Start ``bmz open`` on the image by its address, and give that of the page.

    Parameters
    ----------
    shared : folder with ``data`` and ``models``
    folder : an empty one, where the results come to
    """
    there = folder / "there"
    there.mkdir()
    shutil.copy(shared / "data/neubias" / IMAGE, there / "membranes_nuclei.tif")
    (folder / "cellpose-cyto").symlink_to(shared.resolve() / "models/cellpose-cyto")
    variables = {"BMZ_OFFLINE": "0", "BMZ_CACHE_DIR": str(folder / ".cache")}
    with served(there) as address:
        words = [f"{address}/membranes_nuclei.tif", "-m", "./cellpose-cyto", "-m", "starter/nuclei"]
        command = [sys.executable, "-m", "bmz", "open", *words, "--no-browser"]
        with subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
        ) as program:
            try:
                yield str(program.stdout.readline()).strip() if program.stdout else ""
            finally:
                program.terminate()


@contextmanager
def chromium_page(command: str | None) -> Iterator[Page]:
    """Start Chromium, and give an empty page."""
    with sync_playwright() as driver:
        words = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=command, args=words)
        page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def lesson(shared: Path, folder: Path, browser: AbstractContextManager[Page]) -> Lesson:
    """Do all steps in a browser, which is started with the rest.

    Parameters
    ----------
    shared, folder : as for `opened`
    browser : gives an empty page
    """
    done, before = Lesson(), processor_s()
    with opened(shared, folder) as address, browser as page:
        page.goto(address)
        page.wait_for_selector("#outcome:not([hidden])")
        hand = Hand(page)
        hand.wait()
        for step in STEPS:
            step.act(hand)
            done.objects.append(hand.objects())
            if step.picture:
                done.pictures[step.picture] = hand.picture()
        done.clicks, done.processor_s = hand.clicks, processor_s() - before
    done.saved = sorted(path.name for path in (folder / "results").iterdir())
    return done


def chapter(done: Lesson) -> str:
    """Write the chapter."""
    numbers = zip(STEPS, done.objects, strict=True)
    took = f"{done.clicks} clicks, and took {done.processor_s:.0f} s of processor time"
    lines = [f"The steps below are {took}, the browser with it.\n"]
    for number, (step, objects) in enumerate(numbers, 1):
        lines.append(f"{number}. {step.words.format(objects=objects)}\n")
        if step.picture:
            lines.append(f"   ![{step.caption}](by-eye-{step.picture}.png)\n")
    return "\n".join(lines)


def main(shared: Path) -> None:
    """Do the lesson, and write the chapter and its pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with TemporaryDirectory() as name:
        done = lesson(shared, Path(name), chromium_page(chromium))
    for name, picture in done.pictures.items():
        write_small(PAGE.parent / f"by-eye-{name}.png", picture)
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(
        f"{head}{MARKS[0]}\n{chapter(done)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
