"""The page with sliders of a stack in a real Chromium: keys, layers, and no request."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from tests.browser.test_compare_page import browser_of

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PICTURE = Path(__file__).parents[2] / "docs/how-to/slices.png"
pytestmark = pytest.mark.usefixtures("chromium")  # skips before anything is made


def balls() -> AnyArray:
    """Draw balls of 12 voxels across in a stack of 9 planes, and what a camera adds."""
    chance = np.random.default_rng(3)
    stack = np.zeros((9, 120, 160), bool)
    z, y, x = np.indices(stack.shape, dtype=float)
    for row, column in np.ndindex(4, 5):
        high, down, right = chance.uniform((2, -4, -4), (7, 4, 4))
        down, right = down + row * 30 + 15, right + column * 32 + 16
        stack |= 4 * (z - high) ** 2 + (y - down) ** 2 + (x - right) ** 2 < 100
    light = ndimage.gaussian_filter(stack.astype(np.float32), (0.5, 1.5, 1.5))
    noisy: AnyArray = np.clip(light + chance.normal(0, 0.03, stack.shape), 0, None)
    return noisy.astype(np.float32)


def test_the_page_of_a_stack_goes_from_plane_to_plane(chromium: str, tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.4, "PhysicalSizeY": 0.4}
    tifffile.imwrite(tmp_path / "cells.ome.tif", balls(), metadata=metadata)
    model = write_package(tmp_path / "model", description()).parent
    request = RunRequest(
        str(model), (tmp_path / "cells.ome.tif",), tmp_path / "out", recipe="components",
        settings={"threshold": "0.5"}, link={"z": 0.2}, save=frozenset({"labels", "slices"}),
    )  # fmt: skip

    (done,) = run(request).done

    with browser_of(chromium) as browser:
        page = browser.new_page(viewport={"width": 760, "height": 740})
        asked: list[str] = []
        page.on("request", lambda asking: asked.append(asking.url))
        page.on("pageerror", lambda error: asked.append(f"error: {error}"))
        page.goto(done.files["slices"].as_uri())
        page.wait_for_function("document.getElementById('lines').naturalWidth > 0")
        before = page.inner_text("output")
        if os.environ.get("BMZ_PICTURES"):
            page.screenshot(path=PICTURE)
        page.keyboard.press("ArrowRight")
        after, first = page.inner_text("output"), page.get_attribute("#shown", "src")
        page.keyboard.press("o")
        hidden = not page.is_visible("#lines")
        page.fill("#slider-z", "0")
        last = page.get_attribute("#shown", "src")

        assert before.startswith("z=")
        place = int(before.removeprefix("z=").split()[0])
        assert after == f"z={place + 1} of 0-8"
        assert hidden
        assert page.inner_text("output") == "z=0 of 0-8"
        assert first != last
        assert [url for url in asked if not url.startswith("data:")] == [
            done.files["slices"].as_uri()
        ]
