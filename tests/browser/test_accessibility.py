"""The pages by keyboard alone, by touch, and looked over by axe-core (``make page-access``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.browser.test_compare_page import browser_of
from tests.browser.test_open_page import WAIT_MS, count, counted, served, settled
from tests.conftest import NEEDS

from bmz.app.compare import CompareRequest, compare
from bmz.app.run import run
from bmz.base.files import write_whole_text
from bmz.engine.request import RunRequest
from bmz.report.comparison_page import comparison_page
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("chromium")  # skips before anything is made

TOOLS = Path(__file__).parents[2] / "build/page/node_modules"
"""Where ``make page-access`` puts them."""

DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1440, "height": 900}}
DARK: Mapping[str, Any] = {**DESKTOP, "color_scheme": "dark"}
PHONE: Mapping[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True,
}  # fmt: skip
SCREENS = {"desktop": DESKTOP, "dark": DARK, "phone": PHONE}


@pytest.fixture(scope="module")
def axe() -> str:
    """Give the script of axe-core."""
    script = TOOLS / "axe-core/axe.min.js"
    if not script.is_file():
        pytest.skip(f"{NEEDS} axe-core, which make page-access installs by npm")
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with browser_of(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make squares in two channels and in a stack, and a model that finds them."""
    folder = tmp_path_factory.mktemp("access")
    write_package(folder / "model", description())
    image = np.zeros((120, 160), np.float32)
    for number, (row, column) in enumerate(np.ndindex(4, 5)):
        image[row * 30 + 4 : row * 30 + 24, column * 30 + 4 : column * 30 + 20] = 0.2 + number / 30
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(folder / "a.ome.tif", image, metadata={"axes": "YX", **size})
    tifffile.imwrite(folder / "z.ome.tif", np.stack([image] * 3), metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "c.ome.tif", np.stack([image] * 2), metadata={"axes": "CYX"})
    return folder


@contextmanager
def opened(browser: Any, address: str, screen: Mapping[str, Any] = DESKTOP) -> Iterator[Any]:
    """Open a page on a screen; its policy is bypassed, so that axe-core can be put into it."""
    context = browser.new_context(**screen, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()


def faults(page: Any, axe: str, state: str) -> list[str]:
    """Give what axe-core finds of any severity, in the state that the page is in."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {rules: {'target-size': {enabled: true}}})")
    assert len(found["passes"]) > 10  # it has looked
    return [
        f"{state}: {fault['impact']} {fault['id']}: {node['html']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


def states_of_open(page: Any) -> Iterator[str]:
    """Bring the page of ``bmz open`` into all its states, one after the other."""
    yield "before a run"
    settled(page)
    yield "a mask"
    for mode in ("swipe", "side", "difference", "filled", "none"):
        page.select_option("#mode", mode)
        yield mode
    page.select_option("#mode", "over")
    page.focus("#canvas")
    page.keyboard.press("Shift+ArrowRight")
    page.click("#use")
    page.wait_for_selector("#command:not([hidden])")
    page.click("footer summary")
    page.click("#tuning > details:not([hidden]) > summary >> nth=-1")
    yield "an object, a command, keys and all parameters"
    page.click("#fit")
    page.wait_for_selector("#message:not([hidden])")
    yield "an error"
    page.select_option("#image", "1")
    page.wait_for_selector("#plane-z")
    settled(page)
    yield "a stack"
    page.select_option("#image", "2")
    page.wait_for_selector("#results:has-text('failed')")
    yield "an image that does not fit"


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_no_fault_in_the_page_of_open(
    place: Path, browser: Any, axe: str, screen: str, tmp_path: Path
) -> None:
    names = ("a.ome.tif", "z.ome.tif", "c.ome.tif")
    models = (str(place / "model"), str(place / "model"))
    with (
        served(place, *names, models=models, state=tmp_path / "s.json") as server,
        opened(browser, server.address, SCREENS[screen]) as page,
    ):
        found, wide = [], []
        for state in states_of_open(page):
            found += faults(page, axe, state)
            wide.append(page.evaluate("document.documentElement.scrollWidth"))

    assert found == []
    assert max(wide) <= SCREENS[screen]["viewport"]["width"]


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_no_fault_in_the_page_of_compare(
    place: Path, browser: Any, axe: str, screen: str, tmp_path: Path
) -> None:
    request = CompareRequest(
        (place / "a.ome.tif",), (str(place / "model"),), {"threshold": ("0.1", "0.4", "0.6")},
        None, stability=False, options=RunRequest("", (), Path(), recipe="components"),
        command="bmz compare a.ome.tif",
    )  # fmt: skip
    write_whole_text(tmp_path / "r.html", comparison_page(compare(request)))

    with opened(browser, (tmp_path / "r.html").as_uri(), SCREENS[screen]) as page:
        found = faults(page, axe, "first view")
        for key in "owfd":
            page.keyboard.press(key)
            found += faults(page, axe, f"after {key}")
        for summary in page.locator("summary").all():
            summary.click()
        found += faults(page, axe, "all opened")
        wide = page.evaluate("document.documentElement.scrollWidth")

    assert found == []
    assert wide <= SCREENS[screen]["viewport"]["width"]


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_no_fault_in_the_page_of_a_stack(
    place: Path, browser: Any, axe: str, screen: str, tmp_path: Path
) -> None:
    stack = ndimage.gaussian_filter(tifffile.imread(place / "z.ome.tif"), (0, 1, 1))
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    request = RunRequest(
        str(place / "model"), (tmp_path / "a.ome.tif",), tmp_path / "out", recipe="components",
        settings={"threshold": "0.1"}, link={"z": 0.2}, save=frozenset({"slices"}),
    )  # fmt: skip
    (done,) = run(request).done

    context = browser.new_context(**SCREENS[screen], bypass_csp=True)
    page = context.new_page()
    page.goto(done.files["slices"].as_uri())
    found = faults(page, axe, "slices")
    wide = page.evaluate("document.documentElement.scrollWidth")
    context.close()

    assert found == []
    assert wide <= SCREENS[screen]["viewport"]["width"]


@pytest.fixture
def page(place: Path, browser: Any, tmp_path: Path) -> Iterator[Any]:
    with (
        served(place, "a.ome.tif", state=tmp_path / "s.json") as server,
        opened(browser, server.address) as page,
    ):
        settled(page)
        page.focus("#canvas")
        yield page


def place_of(page: Any) -> tuple[int, int]:
    """Give the row and the column of the square that is selected."""
    headings, values = (page.locator(f"#object {tag}").all_inner_texts() for tag in ("dt", "dd"))
    row = dict(zip(headings, values, strict=True))
    y, x = (float(row[f"centroid_{axis}_px"]) for axis in "yx")
    return round((y - 14) / 30), round((x - 12) / 30)


def test_objects_are_selected_and_corrected_by_keys(page: Any) -> None:
    before = count(page)
    page.keyboard.press("Shift+ArrowDown")
    first = place_of(page)

    page.keyboard.press("Shift+ArrowRight")
    assert place_of(page) == (first[0], first[1] + 1)
    page.wait_for_selector("#told:has-text('object')")  # what a screen reader says

    page.keyboard.press("x")
    page.keyboard.press("Space")  # at the object that was selected
    counted(page, before - 1, 1)
    page.keyboard.press("u")
    page.wait_for_selector(f"#count:text-is('{before} objects')")
    page.keyboard.press("p")  # draw a triangle in the gap right of the middle
    page.keyboard.press("Space")
    for way in ("ArrowRight", "ArrowDown"):
        for _ in range(2):
            page.keyboard.press(way)
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector("#count:has-text('1 correction')")


def test_single_keys_can_be_kept_to_the_image(page: Any) -> None:
    page.click("footer summary")
    page.uncheck("#letters")

    page.focus("#theme")
    page.keyboard.press("f")
    outside = page.input_value("#mode")
    page.focus("#canvas")
    page.keyboard.press("f")

    assert (outside, page.input_value("#mode")) == ("over", "filled")


def test_the_keyboard_stays_where_it_was_when_the_network_has_run(page: Any) -> None:
    page.fill("#scale-number", "0.5")
    page.press("#scale-number", "Enter")
    page.wait_for_selector("#results:has-text('scale=0.5')")
    settled(page)

    assert page.evaluate("document.activeElement.id") == "scale-number"


def pinch(page: Any, middle: Mapping[str, float], apart: Sequence[float]) -> None:
    """Put two fingers beside a place of the window, and move them apart."""
    hand = page.context.new_cdp_session(page)
    for number, far in enumerate([*apart, None]):
        kind = "touchEnd" if far is None else "touchMove" if number else "touchStart"
        sides = () if far is None else (-far, far)
        points = [{**middle, "x": middle["x"] + side, "id": i} for i, side in enumerate(sides)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_two_fingers_zoom_on_a_phone(place: Path, browser: Any, tmp_path: Path) -> None:
    with (
        served(place, "a.ome.tif", state=tmp_path / "s.json") as server,
        opened(browser, server.address, PHONE) as page,
    ):
        settled(page)
        box = page.locator("#canvas").bounding_box()
        before = page.inner_text("#scalebar")
        middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        pinch(page, middle, (20, 60, 120))
        page.wait_for_function(
            "before => document.querySelector('#scalebar').innerText !== before", arg=before
        )

        page.evaluate("window.scrollTo(0, 600)")
        top = page.locator("#stage").bounding_box()["y"]

    assert top == 0  # the picture stays in sight above the settings
