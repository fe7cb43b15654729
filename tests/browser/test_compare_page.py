"""The page of ``bmz compare`` in a real Chromium: views, keys, tables, and no request."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bmz.app.compare import CompareRequest, compare
from bmz.app.run import demo_image
from bmz.base.arrays import AnyArray
from bmz.base.files import write_whole_text
from bmz.engine.request import RunRequest
from bmz.report.comparison_page import comparison_page
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


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with browser_of(chromium) as browser:
        yield browser


@pytest.fixture
def page(file: Path, browser: Any) -> Iterator[Any]:
    troubles: list[str] = []
    one = browser.new_page(viewport={"width": 1300, "height": 900})
    one.on("console", lambda message: troubles.append(message.text))
    one.on("pageerror", lambda error: troubles.append(str(error)))
    one.on("request", lambda request: troubles.append(request.url))
    one.goto(file.as_uri())
    one.wait_for_selector("body[data-ready=yes]")
    yield one
    one.close()
    # the page itself is the one request; what it holds is none
    assert [text for text in troubles if not text.startswith("data:")] == [file.as_uri()]


def test_a_page_without_any_result_tells_what_failed(tmp_path: Path, browser: Any) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0no tiff")
    request = CompareRequest(
        (tmp_path / "a.tif",), ("starter/nuclei",), {}, None, stability=False,
        options=RunRequest("", (), Path()), command="bmz compare a.tif",
    )  # fmt: skip
    write_whole_text(tmp_path / "r.html", comparison_page(compare(request)))

    one = browser.new_page()
    one.goto((tmp_path / "r.html").as_uri())
    one.wait_for_selector("body[data-ready=yes]")

    assert "a.tif" in one.locator("#failed li").inner_text()


def picture(page: Any) -> bytes:
    page.wait_for_timeout(120)
    shot: bytes = page.locator("#stage").screenshot()
    return shot


def half(shot: bytes, number: int) -> AnyArray:
    """Give the left or the right half of a picture of the stage."""
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    middle = pixels.shape[1] // 2
    return pixels[:, middle + 2 :] if number else pixels[:, : middle - 2]


def test_the_first_view_shows_two_results_side_by_side(page: Any) -> None:
    shot = picture(page)

    assert page.locator("#mode-side[aria-pressed=true]").count() == 1
    first, second = page.locator(".caption").all_inner_texts()
    assert first != second
    assert "objects" in first
    # the outlines are those of different masks, in different colours
    assert {tuple(c) for c in half(shot, 0).reshape(-1, 3)} >= {(0xE6, 0x9F, 0x00)}
    assert {tuple(c) for c in half(shot, 1).reshape(-1, 3)} >= {(0x56, 0xB4, 0xE9)}


def test_results_are_switched_on_and_off(page: Any) -> None:
    page.keyboard.press("o")
    before = picture(page)

    page.keyboard.press("2")

    one = picture(page)
    assert one != before
    assert not page.locator("#entry-1-on").is_checked()
    page.locator("#entry-1-on").check()
    assert picture(page) == before


def test_views_side_by_side_move_together(page: Any) -> None:
    before = picture(page)

    page.locator("#canvas").hover(position={"x": 100, "y": 200})
    page.mouse.wheel(0, -400)

    after = picture(page)
    assert not np.array_equal(half(before, 0), half(after, 0))
    assert not np.array_equal(half(before, 1), half(after, 1))
    page.keyboard.press("+")
    assert picture(page) != after
    page.keyboard.press("0")
    assert picture(page) == before


def test_a_slider_shows_the_mask_of_each_value(page: Any) -> None:
    page.keyboard.press("o")
    page.locator("#entry-0-threshold").focus()
    objects = {}

    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    for value in ("0.1", "0.4", "0.6"):
        assert page.locator("#entry-0-threshold").get_attribute("aria-valuetext") == value
        # the keyboard stays at the slider
        assert page.evaluate("document.activeElement.id") == "entry-0-threshold"
        page.wait_for_selector(f"#ranking [aria-current]:has-text('threshold={value}')")
        objects[value] = page.locator("#objects tbody tr").count()
        page.keyboard.press("ArrowRight")

    assert objects == {"0.1": 20, "0.4": 13, "0.6": 7}


def test_a_setting_is_kept_beside_and_taken_away(page: Any) -> None:
    count = page.locator("#results .entry .head").count()

    page.keyboard.press("k")

    assert page.locator("#results .entry .head").count() == count + 1
    assert page.locator(".caption").count() == count + 1
    page.locator("#results .head button[id$=remove]").last.click()
    assert page.locator("#results .entry .head").count() == count


def test_a_row_finds_its_object_and_an_object_its_row(page: Any) -> None:
    page.keyboard.press("o")
    row = page.locator("#objects tbody tr").nth(7)
    label = row.get_attribute("data-label")

    row.focus()
    page.keyboard.press("Enter")

    assert row.get_attribute("aria-selected") == "true"
    page.locator("#objects tbody tr").nth(0).click()
    assert row.get_attribute("aria-selected") is None
    row.click()
    page.evaluate(
        "document.querySelector('#objects [aria-selected]').removeAttribute('aria-selected')"
    )
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(f"#objects tr[data-label='{label}'][aria-selected=true]")
    page.keyboard.press("0")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 3)
    assert "object" not in page.inner_text("#value")


def test_the_swipe_divides_the_picture_where_its_handle_is(page: Any) -> None:
    page.keyboard.press("w")
    before = picture(page)
    assert page.locator(".caption").count() == 2

    page.locator("#split").fill("900")

    wide = picture(page)
    assert wide != before
    page.keyboard.press(",")
    assert page.input_value("#split") == "850"
    box, stage = (page.locator(name).bounding_box() for name in ("#split", "#stage"))
    assert box["x"] + box["width"] - stage["x"] - stage["width"] == pytest.approx(17.6, abs=2)


def test_the_difference_names_both_results(page: Any) -> None:
    page.keyboard.press("d")

    assert [word.split()[0] for word in page.locator(".legend .caption").all_inner_texts()] == [
        "only", "only", "in",
    ]  # fmt: skip


def test_channels_and_contrast_change_the_picture(page: Any) -> None:
    page.locator("#channels-box summary").click()
    before = picture(page)

    page.locator("#channels input[type=checkbox]").nth(1).uncheck()

    one = picture(page)
    assert one != before
    page.locator("#channels input[type=range]").nth(1).fill("60")
    assert picture(page) != one


def test_tables_sort_and_rows_of_the_ranking_choose(page: Any) -> None:
    page.get_by_role("button", name="area px", exact=True).click()
    page.get_by_role("button", name="area px", exact=True).click()
    assert page.locator("#objects th[aria-sort=descending]").count() == 1
    assert page.locator("#ranking th[aria-sort=descending]").inner_text() == "guess"

    row = page.locator("#ranking tbody tr").nth(2)
    row.focus()
    page.keyboard.press("Enter")

    name = page.locator("#ranking tbody tr").nth(2).locator("td").first.inner_text()
    page.wait_for_selector(f"#objects-of:text-is('{name}')")  # the tables follow the mask
    page.locator("#ranking tbody tr").nth(0).focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.rowIndex") == 2


def test_the_page_fits_a_phone_and_the_dark(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")

    wide = page.evaluate("document.documentElement.scrollWidth")

    assert wide <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_a_page_that_is_resized_before_it_is_ready_makes_no_fault(file: Path, browser: Any) -> None:
    troubles: list[str] = []
    one = browser.new_page(viewport={"width": 1300, "height": 900})
    one.on("pageerror", lambda error: troubles.append(str(error)))
    # while the script runs for the first time, and before any picture is there
    one.add_init_script(
        "document.addEventListener('DOMContentLoaded', () => {"
        "for (let i = 0; i < 9; i++) setTimeout(() => dispatchEvent(new Event('resize')), i) })"
    )
    one.goto(file.as_uri(), wait_until="commit")
    for width in (390, 1200, 700):
        one.set_viewport_size({"width": width, "height": 800})
    one.wait_for_selector("body[data-ready=yes]")
    one.set_viewport_size({"width": 500, "height": 800})
    one.wait_for_timeout(200)

    assert troubles == []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two stacks alike: 2, 3 and 1 squares in the first planes, none in the last."""
    folder = tmp_path_factory.mktemp("stack")
    write_package(folder / "model", description())
    image = np.zeros((4, 60, 80), np.float32)
    for plane, columns in enumerate((2, 3, 1)):
        for column in range(columns):
            image[plane, 8:24, column * 24 + 4 : column * 24 + 20] = 0.8 + plane / 20
    for name in "ab":
        tifffile.imwrite(
            folder / f"{name}.tif", image, metadata={"axes": "ZYX"}, photometric="minisblack"
        )
    request = CompareRequest(
        (folder / "a.tif", folder / "b.tif"), (str(folder / "model"),),
        {"threshold": ("0.1", "0.2")}, None, stability=False,
        options=RunRequest("", (), Path(), recipe="components"), command="bmz compare a.tif",
    )  # fmt: skip
    write_whole_text(folder / "r.html", comparison_page(compare(request)))
    return folder / "r.html"


def test_a_stack_has_a_slider_and_tables_of_the_plane_that_is_shown(
    stack: Path, browser: Any
) -> None:
    one = browser.new_page(viewport={"width": 1300, "height": 900})
    one.goto(stack.as_uri())
    one.wait_for_selector("body[data-ready=yes]")
    assert one.input_value("#plane-z") == "1"  # the fullest one
    rows = "n => document.querySelectorAll('#objects tbody tr').length === n"
    for place, count in {0: 2, 1: 3, 2: 1, 3: 0}.items():
        one.fill("#plane-z", str(place))
        one.wait_for_function(rows, arg=count)
        assert one.locator("#worst tbody tr").count() <= count
    one.keyboard.press("[")
    assert one.input_value("#plane-z") == "2"

    assert one.locator("#over tbody tr").count() == 2
    row = one.locator("#over tbody tr").nth(1)
    name = row.locator("td").first.inner_text()
    row.focus()
    one.keyboard.press("Enter")
    one.wait_for_selector(f"#objects-of:has-text('{name}')")
    one.keyboard.press("n")
    one.wait_for_function("document.getElementById('image').value === '1'")
    one.keyboard.press("k")
    assert one.locator("#results .head").count() == 3
    one.keyboard.press("p")
    assert one.locator("#results .head").count() == 2  # the list is that of the image
    one.close()


def test_every_command_and_version_is_told(page: Any) -> None:
    for summary in page.locator("footer summary").all():
        summary.click()

    assert "bmz run" in page.locator("#commands").inner_text()
    assert "numpy" in page.locator("#versions").inner_text()
    assert page.locator("#command").inner_text() == "bmz compare a.tif"


def test_the_picture_in_the_docs_is_of_such_a_page(tmp_path: Path, browser: Any) -> None:
    models = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour")
    shutil.copy(demo_image(), tmp_path / "nuclei.tif")
    request = CompareRequest(
        (tmp_path / "nuclei.tif",), models, {}, None, stability=False,
        options=RunRequest("", (), Path()), command="bmz compare nuclei.tif",
    )  # fmt: skip
    write_whole_text(tmp_path / "r.html", comparison_page(compare(request)))

    one = browser.new_page(viewport={"width": 1200, "height": 940})
    one.goto((tmp_path / "r.html").as_uri())
    one.wait_for_selector("body[data-ready=yes]")
    one.wait_for_timeout(300)
    one.screenshot(path=tmp_path / "compare.png")

    assert (tmp_path / "compare.png").stat().st_size > 20_000
    if "BMZ_PICTURES" in os.environ:  # make pictures
        from docs.panels import read_small, write_small  # here: it needs matplotlib

        write_small(PICTURE, read_small(tmp_path / "compare.png"))
    assert PICTURE.is_file()
