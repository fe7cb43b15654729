"""Measure how long a user of ``bmz open`` waits for a mask, or for a view of a large image.

    python benchmarks/open_page.py [--only sliders|large] [--write docs/design/open-page.md]

Playwright controls Chromium. On images of drawn nuclei, the time from the event of a slider until
the new mask is drawn is measured, and whether memory stays constant. A large OME-Zarr is opened by
the program itself, from the disk and from a server on this computer that delays each request. The
view is then moved and zoomed in and out, and the time that it waits for the image is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import tifffile
import zarr
from pages import write_between
from playwright.sync_api import sync_playwright
from scipy import ndimage
from skimage import draw

from bmz.app.open import OpenRequest, Workbench
from bmz.app.run import demo_image
from bmz.base.errors import not_none
from bmz.engine.request import RunRequest
from bmz.page.calls import page_calls
from bmz.page.server import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

MARKS = ("<!-- benchmarks/open_page.py -->\n", "<!-- end of open page -->\n")
MOVES = 20
MANY_MOVES = 200
PANS = 40
LARGE, CHUNK = 32_768, 1024
"""Side of the large image and of its chunks, px."""

DELAY_MS = 20

CASES = {
    "starter/nuclei": ("stardist", {"prob_threshold": (0.4, 0.7), "nms_threshold": (0.2, 0.6)}),
    "starter/nuclei-flows": (
        "flows",
        {"cellprob_threshold": (-1.0, 1.0), "flow_threshold": (0.2, 1.0), "min_size": (0, 60)},
    ),
}
SIZES = {1024: 300, 2048: 4000}
"""Side of an image in px -> number of nuclei in it."""

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


_PAN = """async (count) => {
  const canvas = document.getElementById("canvas"), waits = [];
  const box = canvas.getBoundingClientRect();
  const at = (x, y) => ({clientX: box.left + x * box.width, clientY: box.top + y * box.height});
  const drag = (type, x, y) => canvas.dispatchEvent(
    new PointerEvent(type, {...at(x, y), pointerId: 1, bubbles: true, isPrimary: true}));
  canvas.setPointerCapture = () => {};
  const zoom = (deltaY) => canvas.dispatchEvent(
    new WheelEvent("wheel", {...at(0.4, 0.6), deltaY, bubbles: true, cancelable: true}));
  for (let n = 0; n < count; n++) {
    const begun = performance.now();
    if (n % 4 === 3) zoom(n < count / 2 ? -700 : 700);
    else {  // most of a view aside
      drag("pointerdown", 0.9, 0.9); drag("pointermove", 0.1, 0.3); drag("pointerup", 0.1, 0.3);
    }
    do await new Promise(requestAnimationFrame); while (canvas.dataset.view !== "there");
    waits.push(performance.now() - begun);
  }
  return waits;
}"""


def nuclei(folder: Path, side: int, count: int) -> Path:
    """Write an image of `count` nuclei on a loose grid: blurred ellipses with noise."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(count)))
    pitch, image = side / across, np.zeros((side, side), np.float32)
    for number in range(count):
        middle = (np.array(divmod(number, across)) + 0.5 + rng.uniform(-0.12, 0.12, 2)) * pitch
        axes, turn = rng.uniform(0.28, 0.4, 2) * pitch, rng.uniform(0, np.pi)
        rows, columns = draw.ellipse(*middle, *axes, image.shape, turn)
        image[rows, columns] = rng.uniform(0.5, 1)
    image = ndimage.gaussian_filter(image, 1) * 20_000 + rng.normal(500, 300, image.shape)
    path = folder / f"{side}.tif"
    tifffile.imwrite(path, np.clip(image, 0, 65_535).astype(np.uint16))
    return path


@contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium, and return an empty page."""
    with sync_playwright() as driver:
        command = shutil.which("chromium")
        words = [
            "--no-sandbox",
            "--disable-gpu",
            "--enable-precise-memory-info",
            "--js-flags=--expose-gc",
        ]
        program = driver.chromium.launch(executable_path=command, args=words)
        page = program.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(300_000)
        yield page
        program.close()


@contextmanager
def page_on(path: Path, model: str, folder: Path) -> Iterator[Page]:
    """Open the page of an image with a model, and wait for its first mask."""
    request = OpenRequest((path,), (model,), RunRequest("", (path,), folder, device="cpu"))
    state = folder / f"{path.stem}-{model.replace('/', '-')}.json"
    with (
        Workbench(request) as bench,
        serving(page_calls(bench, state)) as server,
        browser() as page,
    ):
        page.goto(server.address)
        page.wait_for_selector("#outcome:not([hidden])")
        page.wait_for_selector("#canvas[data-shown]:not([data-shown=''])")
        page.wait_for_selector("body:not([data-busy])")
        yield page


def moves(page: Page, name: str, ends: tuple[float, float], count: int) -> list[float]:
    """Move a slider to and fro, and return how long each mask took, ms."""
    values = np.linspace(*ends, count)
    values[1::2] = values[1::2][::-1]
    return [page.evaluate(_MOVE, [name, f"{value:.3f}"]) for value in values]


def slider_rows(folder: Path) -> Iterator[str]:
    """Move every slider of every recipe on every size; return the rows of a table, and memory."""
    yield "| px | objects | recipe | slider | median, ms | slowest of 20, ms |"
    yield "|---|---|---|---|---|---|"
    flat = ""
    for side, count in SIZES.items():
        path = nuclei(folder, side, count)
        for model, (recipe, sliders) in CASES.items():
            with page_on(path, model, folder) as page:
                for name, ends in sliders.items():
                    moves(page, name, ends, 3)  # compiles what is compiled at first use
                    took = moves(page, name, ends, MOVES)
                    objects = int(page.inner_text("#count").split()[0])
                    yield (
                        f"| {side} | {objects} | `{recipe}` | `{name}` "
                        f"| {statistics.median(took):.0f} | {max(took):.0f} |"
                    )
                if recipe == "flows" and not flat:
                    flat = _memory(page, *next(iter(sliders.items())))
    yield from ("", flat)


def _memory(page: Page, parameter: str, ends: tuple[float, float]) -> str:
    used = "() => { gc(); return performance.memory.usedJSHeapSize; }"
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


def pyramid(path: Path) -> None:
    """Write an OME-Zarr of `LARGE` px a side; all its chunks are links to one file."""
    levels = int(np.log2(LARGE // CHUNK)) + 1
    image = tifffile.imread(demo_image())
    chunk = np.tile(image, [CHUNK // n + 1 for n in image.shape])[:CHUNK, :CHUNK]
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for level in range(levels):
        side = LARGE >> level
        array = group.create_array(
            str(level), shape=(side, side), chunks=(CHUNK, CHUNK), dtype=chunk.dtype
        )
        array[:CHUNK, :CHUNK] = chunk
        (first,) = (path / str(level)).rglob("0.0")
        for row, column in np.ndindex(side // CHUNK, side // CHUNK):
            if row or column:
                os.link(first, first.with_name(f"{row}.{column}"))
    um = ({"type": "scale", "scale": [0.25 * 2.0**level] * 2} for level in range(levels))
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    sets = [{"path": str(n), "coordinateTransformations": [one]} for n, one in enumerate(um)]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": sets}]


class Waiting(SimpleHTTPRequestHandler):
    """Handler that serves files, each after a delay."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Wait, then answer."""
        time.sleep(DELAY_MS / 1e3)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """Serve a folder, and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Waiting, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def program(image: str, folder: Path) -> Iterator[str]:
    """Start ``bmz open`` on an image, and return the address of its page."""
    command = [sys.executable, "-m", "bmz", "open", image, "--no-browser", "-o", str(folder)]
    cache = {"BMZ_CACHE_DIR": tempfile.mkdtemp(dir=folder), "BMZ_OFFLINE": ""}
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, env=os.environ | cache
    ) as process:
        yield not_none(process.stdout).readline().strip()
        process.terminate()


def large_row(page: Page, place: str, image: str, folder: Path) -> str:
    """Open a large image and look around in it; return a row of a table."""
    begun = time.perf_counter()
    with program(image, folder) as address:
        started = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("#canvas[data-view=there]")
        ended = time.perf_counter()
        waits = page.evaluate(_PAN, PANS)
        page.goto("about:blank")
    first = f"{started - begun:.1f} | {ended - started:.1f}"
    return f"| {place} | {first} | {statistics.median(waits):.0f} | {max(waits):.0f} |"


def large_rows(folder: Path) -> Iterator[str]:
    """Open a large OME-Zarr from the disk and from a server."""
    name = "large.zarr"
    pyramid(folder / name)
    yield (
        f"| {LARGE} px | until the program answers, s | until the image is there, s "
        f"| median view of {PANS}, ms | slowest, ms |"
    )
    yield "|---|---|---|---|---|"
    with browser() as window, slow_server(folder) as address:
        yield large_row(window, "from the disk", str(folder / name), folder)
        place = f"from a server that waits {DELAY_MS} ms"
        yield large_row(window, place, f"{address}/{name}", folder)


PARTS = {"sliders": slider_rows, "large": large_rows}


def main() -> None:
    """Measure, print, and write into a page if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", choices=PARTS, help="one of the two parts, which is printed")
    options = parser.parse_args()
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for part in [options.only] if options.only else PARTS:
            for row in PARTS[part](Path(name)):
                rows.append(row)
                print(row, flush=True)
            rows.append("")
    if options.write:
        write_between(options.write, MARKS, "\n".join(rows))


if __name__ == "__main__":
    main()
