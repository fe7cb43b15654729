"""How long a slider of ``bmz open`` waits for its mask, and whether memory stays flat.

    python benchmarks/open_page.py [--write docs/design/open-page.md]

Playwright drives Chromium. Measured is the time from the event of a slider until the new mask is
drawn, on the bundled image, repeated to larger sides.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from benchmarks.pages import write_between
from playwright.sync_api import sync_playwright

from bmz.app.open import OpenRequest, Workbench
from bmz.app.run import demo_image
from bmz.engine.request import RunRequest
from bmz.page.calls import page_calls
from bmz.page.server import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

MARKS = ("<!-- benchmarks/open_page.py -->\n", "<!-- end of open page -->\n")
MOVES = 20
MANY_MOVES = 200

CASES = {
    "starter/nuclei": ("stardist", "prob_threshold", (0.4, 0.7)),
    "starter/nuclei-flows": ("flows", "cellprob_threshold", (-1.0, 1.0)),
}
SIDES = (1024, 2048)

_MOVE = """async ([name, value]) => {
  const canvas = document.getElementById("canvas"), slider = document.getElementById(`set-${name}`);
  const before = canvas.dataset.shown, begun = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  for (;;) {
    await new Promise(requestAnimationFrame);
    if (canvas.dataset.shown && canvas.dataset.shown !== before) return performance.now() - begun;
  }
}"""


def tiled(folder: Path, side: int) -> Path:
    """Write the bundled image, repeated to so many px a side."""
    image = tifffile.imread(demo_image())
    times = [side // n + 1 for n in image.shape]
    path = folder / f"{side}.tif"
    tifffile.imwrite(path, np.tile(image, times)[:side, :side])
    return path


@contextmanager
def page_on(path: Path, model: str, folder: Path) -> Iterator[Page]:
    """Open the page of an image with a model, and wait for its first mask."""
    request = OpenRequest((path,), (model,), RunRequest("", (path,), folder, device="cpu"))
    with (
        Workbench(request) as bench,
        serving(
            page_calls(bench, folder / f"{path.stem}-{model.replace('/', '-')}.json")
        ) as server,
        sync_playwright() as driver,
    ):
        command = shutil.which("chromium")
        words = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
        browser = driver.chromium.launch(executable_path=command, args=words)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(300_000)
        page.goto(server.address)
        page.wait_for_selector("#outcome:not([hidden])")
        page.wait_for_selector("#canvas[data-shown]:not([data-shown=''])")
        page.wait_for_selector("body:not([data-busy])")
        yield page
        browser.close()


def moves(page: Page, name: str, ends: tuple[float, float], count: int) -> list[float]:
    """Move a slider to and fro, and give how long each mask took, ms."""
    values = np.linspace(*ends, count)
    values[1::2] = values[1::2][::-1]
    return [page.evaluate(_MOVE, [name, f"{value:.3f}"]) for value in values]


def main() -> None:
    """Measure, print, and write into a page where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = ["| px | recipe | objects | median, ms | slowest of 20, ms |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in SIDES:
            path = tiled(folder, side)
            for model, (recipe, parameter, ends) in CASES.items():
                with page_on(path, model, folder) as page:
                    moves(page, parameter, ends, 3)  # what is compiled at first use
                    took = moves(page, parameter, ends, MOVES)
                    objects = int(page.inner_text("#count").split()[0])
                    median = statistics.median(took)
                    rows.append(
                        f"| {side} | `{recipe}` | {objects} | {median:.0f} | {max(took):.0f} |"
                    )
                    if side == SIDES[0] and recipe == "flows":
                        flat = _memory(page, parameter, ends)
    text = "\n".join([*rows, "", flat])
    print(text)
    if options.write:
        write_between(options.write, MARKS, f"{text}\n")


def _memory(page: Page, parameter: str, ends: tuple[float, float]) -> str:
    used = "() => performance.memory.usedJSHeapSize"
    before, program = page.evaluate(used), _rss()
    moves(page, parameter, ends, MANY_MOVES)
    after, grown = page.evaluate(used), _rss()
    return (
        f"After {MANY_MOVES} moves the page holds {after / before:.2f} times its memory, "
        f"the program {grown / program:.2f} times."
    )


def _rss() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
