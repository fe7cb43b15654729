"""The page of ``bmz compare`` in a real Chromium: views, keys, tables, and no request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.compare import CompareRequest, compare
from bmz.app.run import demo_image
from bmz.base.files import write_whole_text
from bmz.engine.request import RunRequest
from bmz.report.html import comparison_page
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PICTURE = Path(__file__).parents[2] / "docs/how-to/compare.png"
pytestmark = pytest.mark.usefixtures("chromium")  # skips before anything is made


@contextmanager
def browser_of(chromium: str) -> Iterator[Any]:
    """Start the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_package(folder / "model", description(channels=2))
    image = np.zeros((2, 120, 160), np.float32)
    for number, (row, column) in enumerate(np.ndindex(4, 5)):
        image[:, row * 30 + 4 : row * 30 + 24, column * 30 + 4 : column * 30 + 20] = (
            0.2 + number / 30
        )
    truth = (image[0] > 0.1).astype(np.uint16)
    tifffile.imwrite(folder / "a.tif", image, metadata={"axes": "CYX"})
    tifffile.imwrite(folder / "truth.tif", truth * 3, metadata={"axes": "YX"})
    sweeps = {"threshold": ("0.1", "0.4", "0.6")}
    request = CompareRequest(
        (folder / "a.tif",), (str(folder / "model"),), sweeps, None, stability=False,
        options=RunRequest("", (), Path(), recipe="components"), command="bmz compare a.tif",
    )  # fmt: skip
    write_whole_text(folder / "r.html", comparison_page(compare(request)))
    return folder / "r.html"


@pytest.fixture
def page(file: Path, chromium: str) -> Iterator[Any]:
    troubles: list[str] = []
    with browser_of(chromium) as browser:
        one = browser.new_page(viewport={"width": 1300, "height": 900})
        one.on("console", lambda message: troubles.append(message.text))
        one.on("pageerror", lambda error: troubles.append(str(error)))
        one.on("request", lambda request: troubles.append(request.url))
        one.goto(file.as_uri())
        one.wait_for_selector("body[data-ready=yes]")
        yield one
    # the page itself is the one request
    assert troubles == [file.as_uri()]


def test_a_page_without_any_result_tells_what_failed(tmp_path: Path, chromium: str) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0no tiff")
    request = CompareRequest(
        (tmp_path / "a.tif",), ("starter/nuclei",), {}, None, stability=False,
        options=RunRequest("", (), Path()), command="bmz compare a.tif",
    )  # fmt: skip
    write_whole_text(tmp_path / "r.html", comparison_page(compare(request)))

    with browser_of(chromium) as browser:
        one = browser.new_page()
        one.goto((tmp_path / "r.html").as_uri())
        one.wait_for_selector("body[data-ready=yes]")

        assert "a.tif" in one.locator("#failed li").inner_text()


def picture(page: Any, number: int = 0) -> bytes:
    page.wait_for_timeout(80)
    shot: bytes = page.locator("#views canvas").nth(number).screenshot()
    return shot


def test_outlines_are_switched_on_and_off(page: Any) -> None:
    before = picture(page)

    page.locator("#results input").nth(1).check()

    both = picture(page)
    assert both != before
    page.keyboard.press("2")
    assert picture(page) == before
    assert not page.locator("#results input").nth(1).is_checked()


def test_views_side_by_side_move_together(page: Any) -> None:
    page.keyboard.press("2")
    page.keyboard.press("s")
    page.keyboard.press("0")
    assert page.locator("#views canvas").count() == 2
    before = [picture(page, 0), picture(page, 1)]

    page.locator("#views canvas").nth(0).hover()
    page.mouse.wheel(0, -400)

    after = [picture(page, 0), picture(page, 1)]
    assert after[0] != before[0]
    assert after[1] != before[1]
    place = page.evaluate("JSON.stringify(state.view)")
    page.keyboard.press("+")
    assert page.evaluate("JSON.stringify(state.view)") != place
    page.keyboard.press("0")
    assert [picture(page, 0), picture(page, 1)] == before


def test_a_row_finds_its_object_and_an_object_its_row(page: Any) -> None:
    row = page.locator("#objects tbody tr").nth(7)

    row.click()

    assert row.get_attribute("aria-selected") == "true"
    x, y = (float(row.get_attribute(f"data-{axis}")) for axis in "xy")
    assert page.evaluate("[state.view.x, state.view.y]") == pytest.approx([x, y])
    page.locator("#objects tbody tr").nth(0).evaluate("row => select(row)")
    box = page.locator("#views canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert row.get_attribute("aria-selected") == "true"


def test_the_left_result_ends_where_the_slider_is(page: Any) -> None:
    page.keyboard.press("w")
    before = picture(page)

    page.locator(".swipe").fill("900")

    assert picture(page) != before
    assert "left:" in page.locator("figcaption").inner_text()


def test_channels_and_contrast_change_the_picture(page: Any) -> None:
    before = picture(page)

    page.locator("#channels input[type=checkbox]").nth(1).uncheck()

    one = picture(page)
    assert one != before
    page.locator("#channels input[type=range]").nth(1).fill("60")
    assert picture(page) != one


def test_tables_sort_and_rows_of_the_ranking_choose(page: Any) -> None:
    page.get_by_role("button", name="area_px", exact=True).click()
    page.get_by_role("button", name="area_px", exact=True).click()
    assert page.locator("#objects th[aria-sort=descending]").count() == 1

    page.locator("#ranking tbody tr").nth(2).click()

    name = page.locator("#ranking tbody tr").nth(2).locator("td").first.inner_text()
    assert page.locator("#objects-of").inner_text() == name
    assert page.locator("#sizes path").count() == 2


def test_the_page_fits_a_phone_and_the_dark(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")

    wide = page.evaluate("document.documentElement.scrollWidth")

    assert wide <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_every_command_and_version_is_told(page: Any) -> None:
    page.locator("summary").click()

    assert "bmz run" in page.locator("#commands").inner_text()
    assert "numpy" in page.locator("#versions").inner_text()
    assert page.locator("#command").inner_text() == "bmz compare a.tif"


def test_the_picture_in_the_docs_is_of_such_a_page(tmp_path: Path, chromium: str) -> None:
    models = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour")
    shutil.copy(demo_image(), tmp_path / "nuclei.tif")
    request = CompareRequest(
        (tmp_path / "nuclei.tif",), models, {}, None, stability=False,
        options=RunRequest("", (), Path()), command="bmz compare nuclei.tif",
    )  # fmt: skip
    write_whole_text(tmp_path / "r.html", comparison_page(compare(request)))

    with browser_of(chromium) as browser:
        one = browser.new_page(viewport={"width": 1200, "height": 900})
        one.goto((tmp_path / "r.html").as_uri())
        one.wait_for_selector("body[data-ready=yes]")
        one.keyboard.press("2")
        one.keyboard.press("s")
        one.keyboard.press("0")
        one.wait_for_timeout(200)
        one.screenshot(path=tmp_path / "compare.png")

    assert (tmp_path / "compare.png").stat().st_size > 20_000
    if "BMZ_PICTURES" in os.environ:  # make pictures
        from docs.panels import read_small, write_small  # here: it needs matplotlib

        write_small(PICTURE, read_small(tmp_path / "compare.png"))
    assert PICTURE.is_file()
