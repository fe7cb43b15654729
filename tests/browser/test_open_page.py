"""The page of ``bmz open`` in a real Chromium: what it does, and who it talks to."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bmz.app.open import OpenRequest, Workbench
from bmz.app.run import demo_image
from bmz.engine.request import RunRequest
from bmz.page.calls import page_calls
from bmz.page.server import PageServer, serving
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("chromium")  # skips before anything is made

PICTURE = Path(__file__).parents[2] / "docs/how-to/open.png"
WAIT_MS = 300_000


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(WAIT_MS)
    page.faults = []
    page.on("pageerror", lambda why: page.faults.append(str(why)))
    page.on("console", lambda said: page.faults.extend(unexpected(said)))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()


def unexpected(said: Any) -> list[str]:
    """Give what a console says of errors, but for calls that are refused in words (422)."""
    return [said.text] if said.type == "error" and "422" not in said.text else []


def settled(page: Any) -> None:
    """Wait until no network runs and the count is shown."""
    page.wait_for_selector("body:not([data-busy])")
    page.wait_for_selector("#outcome:not([hidden])")


def count(page: Any) -> int:
    return int(page.inner_text("#count").split()[0])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    write_package(folder / "model", description())
    image = np.zeros((120, 160), np.float32)
    for number, (row, column) in enumerate(np.ndindex(4, 5)):
        image[row * 30 + 4 : row * 30 + 24, column * 30 + 4 : column * 30 + 20] = 0.2 + number / 30
    stack = np.stack([image, np.roll(image, 3, 1), image])
    tifffile.imwrite(folder / "a.tif", image, metadata={"axes": "YX"})
    tifffile.imwrite(folder / "z.ome.tif", stack, metadata={"axes": "ZYX"})
    return folder


@contextmanager
def served(
    place: Path, *names: str, state: Path, models: Sequence[str] = ()
) -> Iterator[PageServer]:
    images = tuple(place / name for name in names)
    options = RunRequest("", images, place / "out", device="cpu")
    request = OpenRequest(images, tuple(models) or (str(place / "model"),), options)
    with (
        Workbench(request) as bench,
        serving(page_calls(bench, state)) as server,
    ):
        yield server


@pytest.fixture
def page(place: Path, browser: Any, tmp_path: Path) -> Iterator[Any]:
    with (
        served(place, "a.tif", "z.ome.tif", state=tmp_path / "state.json") as server,
        page_of(browser, server.address) as page,
    ):
        settled(page)
        yield page
        assert page.faults == []


def test_a_slider_makes_the_mask_again_and_the_count_follows(page: Any) -> None:
    before = count(page)

    page.fill("#set-threshold >> xpath=following-sibling::input", "0.7")
    page.press("#set-threshold >> xpath=following-sibling::input", "Enter")
    page.wait_for_selector(f"#count:not(:text-is('{before} objects'))")

    assert (before, count(page)) == (10, 4)
    assert "threshold=0.7" in page.inner_text("#results")
    page.wait_for_selector("#sizes svg[aria-label^='equivalent diameter, px: 4 objects']")


def test_an_object_that_is_clicked_shows_its_row(page: Any) -> None:
    box = page.locator("#canvas").bounding_box()
    # the last square, at row 3 and column 4, from (94, 124) to (114, 140) px
    zoom = min(box["width"] / 160, box["height"] / 120)
    x = box["x"] + box["width"] / 2 + (132 - 80) * zoom
    y = box["y"] + box["height"] / 2 + (104 - 60) * zoom

    page.mouse.click(x, y)

    told = page.inner_text("#object")
    assert re.search(r"area_px\s+320", told)
    assert re.fullmatch(
        r"x 13[12], y 10[34]: intensity 0.8333+; object 10", page.inner_text("#value")
    )


def test_results_are_swiped_and_compared(page: Any) -> None:
    page.fill(
        "#model",
        page.inner_text("#tuned")
        and page.evaluate("() => document.querySelector('#known option').value"),
    )
    page.press("#model", "Enter")
    settled(page)
    page.wait_for_selector("#results .result >> nth=1")

    for key, mode in (("w", "swipe"), ("s", "side"), ("d", "difference"), ("o", "over")):
        page.focus("#canvas")
        page.keyboard.press(key)

        assert page.input_value("#mode") == mode
        shown = page.locator("#left-name").is_visible()
        assert shown == (mode in ("swipe", "side"))


def test_the_settings_become_a_command_and_files(page: Any, place: Path) -> None:
    page.click("#use")
    page.wait_for_selector("#command:not([hidden])")
    command = page.inner_text("#command")
    page.click("#save")
    page.wait_for_selector("#command:has-text('saved')")

    assert command.startswith("bmz run ")
    assert "z.ome.tif" in command
    assert (place / "out" / "a.labels.tif").is_file()


def test_the_plane_is_chosen_and_run_anew(page: Any) -> None:
    page.select_option("#image", "1")
    page.wait_for_selector("#plane-z")
    settled(page)

    page.focus("#canvas")
    page.keyboard.press("]")
    settled(page)

    assert page.input_value("#plane-z") == "2"
    assert count(page) == 10


def test_what_fails_is_told_in_words(page: Any) -> None:
    page.fill("#model", "no-such-model-anywhere")
    page.press("#model", "Enter")
    page.wait_for_selector("#message:not([hidden])")

    assert "no-such-model-anywhere" in page.inner_text("#message")
    assert "failed" in page.inner_text("#results")


def test_no_request_leaves_this_computer(place: Path, browser: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    with served(place, "a.tif", state=tmp_path / "s.json") as server:
        with page_of(browser, server.address) as page:
            page.on("request", lambda request: asked.append(request.url))
            page.reload()
            settled(page)
            page.click("#use")
            page.wait_for_selector("#command:not([hidden])")

        assert asked
        assert all(url.startswith((server.address, "blob:", "data:")) for url in asked)


def test_a_page_of_another_site_cannot_read_or_change(
    place: Path, browser: Any, tmp_path: Path
) -> None:
    with (
        served(place, "a.tif", state=tmp_path / "s.json") as server,
        served(place, "a.tif", state=tmp_path / "t.json") as other,
        page_of(browser, other.address) as page,
    ):
        # the policy of the page forbids it to ask elsewhere; a site without one is refused
        page.goto("about:blank")
        told = page.evaluate(
            """async (address) => {
                const headers = {"Content-Type": "application/json"};
                const words = {method: "POST", body: "{}", headers};
                const tries = [fetch(address + "api/images"), fetch(address + "api/state", words)];
                return Promise.all(tries.map((one) => one.then((r) => r.status, () => "refused")));
            }""",
            server.address,
        )

    assert set(told) <= {"refused", 403}


def test_the_page_goes_on_where_it_was(place: Path, browser: Any, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with served(place, "a.tif", state=state) as server, page_of(browser, server.address) as page:
        settled(page)
        page.fill("#set-threshold >> xpath=following-sibling::input", "0.7")
        page.press("#set-threshold >> xpath=following-sibling::input", "Enter")
        page.wait_for_selector("#count:text-is('4 objects')")
        deadline = time.monotonic() + WAIT_MS / 1000
        while "0.7" not in (state.read_text() if state.exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    with served(place, "a.tif", state=state) as server, page_of(browser, server.address) as page:
        settled(page)

        assert count(page) == 4


def test_a_state_that_cannot_be_read_does_not_keep_the_page_shut(
    place: Path, browser: Any, tmp_path: Path
) -> None:
    kept = {"image": 0, "results": [{"choice": None}, 7], "channels": 3, "mode": "no such"}
    (tmp_path / "s.json").write_text(json.dumps(kept))

    with (
        served(place, "a.tif", state=tmp_path / "s.json") as server,
        page_of(browser, server.address) as page,
    ):
        settled(page)

        assert count(page) == 10
        assert "begins anew" in page.inner_text("#message")
        assert page.faults == []


def test_the_page_shows_which_channels_and_options_hold(
    place: Path, browser: Any, tmp_path: Path
) -> None:
    model = str(place / "model")
    with (
        served(
            place, "a.tif", models=(model, f"{model}:channels=0:threshold=0.7"),
            state=tmp_path / "s.json",
        ) as server,
        page_of(browser, server.address) as page,
    ):  # fmt: skip
        settled(page)
        plain = (
            page.input_value("#net-channels"),
            page.get_attribute("#net-channels", "placeholder"),
        )
        page.click("#results .name >> nth=1")
        page.wait_for_selector("#count:text-is('4 objects')")
        settled(page)

        assert plain == ("", "0")
        assert page.input_value("#net-channels") == "0"
        assert page.inner_text("#tuned") == "model"
        assert "2 model channels=0 threshold=0.7" in page.inner_text("#results")


def test_a_phone_shows_everything_in_one_column(place: Path, browser: Any, tmp_path: Path) -> None:
    with (
        served(place, "a.tif", state=tmp_path / "s.json") as server,
        page_of(browser, server.address) as page,
    ):
        page.set_viewport_size({"width": 390, "height": 800})
        settled(page)

        wide = page.evaluate("() => document.documentElement.scrollWidth")
        canvas = page.locator("#canvas").bounding_box()

    assert wide <= 390
    assert canvas["width"] > 300


def test_the_program_prints_its_address_and_ends_when_asked(place: Path) -> None:
    words = ["open", str(place / "a.tif"), "--no-browser", "-m", str(place / "model")]
    command = [sys.executable, "-m", "bmz", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().strip()
            program.terminate()
            ended = program.wait(60)
        finally:
            program.kill()

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
    assert ended == 128 + signal.SIGTERM


def on_canvas(page: Any, x: float, y: float) -> tuple[float, float]:
    """Give the place in the window of a px of the image, which is shown whole."""
    box = page.locator("#canvas").bounding_box()
    zoom = min(box["width"] / 160, box["height"] / 120)
    return (
        box["x"] + box["width"] / 2 + (x - 80) * zoom,
        box["y"] + box["height"] / 2 + (y - 60) * zoom,
    )


def counted(page: Any, objects: int, corrections: int) -> None:
    edits = f"{corrections} correction{'s' * (corrections != 1)}"
    page.wait_for_selector(f"#count:text-is('{objects} objects, {edits}')")


def test_a_mask_is_corrected_by_hand(page: Any) -> None:
    before = count(page)

    page.select_option("#tool", "delete")
    page.mouse.click(*on_canvas(page, 132, 104))
    counted(page, before - 1, 1)
    page.focus("#canvas")
    page.keyboard.press("l")  # split the square before it from left to right
    page.mouse.move(*on_canvas(page, 88, 104))
    page.mouse.down()
    page.mouse.move(*on_canvas(page, 102, 104), steps=4)
    page.mouse.move(*on_canvas(page, 116, 104), steps=4)
    page.mouse.up()
    counted(page, before, 2)
    page.keyboard.press("m")
    page.mouse.click(*on_canvas(page, 102, 97))
    page.mouse.click(*on_canvas(page, 102, 110))
    counted(page, before - 1, 3)
    page.keyboard.press("u")
    counted(page, before, 2)

    page.keyboard.press("x")
    page.mouse.click(*on_canvas(page, 2, 2))  # there is nothing
    page.wait_for_selector("#message:has-text('there is no object here')")
    counted(page, before, 2)


def test_what_the_user_thinks_is_kept(page: Any, place: Path) -> None:
    page.mouse.click(*on_canvas(page, 132, 104))
    page.click("#good")
    page.wait_for_selector("#command:has-text('kept as row')")
    page.keyboard.press("Escape")

    table = (place / "out" / "judgements.csv").read_text()
    assert re.search(
        r"a\.tif,.*,10,103\.5,131\.5,320,right,94 124 20 16: 0 320,$", table, re.MULTILINE
    )


def test_the_picture_in_the_docs_is_of_such_a_page(browser: Any, tmp_path: Path) -> None:
    shutil.copy(demo_image(), tmp_path / "nuclei.tif")
    models = ("starter/nuclei", "starter/nuclei-flows")
    with (
        served(tmp_path, "nuclei.tif", models=models, state=tmp_path / "s.json") as server,
        page_of(browser, server.address) as page,
    ):
        settled(page)
        page.click("#results .name >> nth=1")
        page.wait_for_selector("#results .result:nth-child(2):has-text('objects')")
        settled(page)
        page.select_option("#mode", "swipe")
        page.wait_for_timeout(500)
        picture = page.screenshot(type="png")

    shown = Image.open(io.BytesIO(picture)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    shown.save(tmp_path / "open.png", optimize=True)
    assert (tmp_path / "open.png").stat().st_size > 20_000
    if "BMZ_PICTURES" in os.environ:  # make pictures
        shutil.copy(tmp_path / "open.png", PICTURE)
    assert PICTURE.is_file()
