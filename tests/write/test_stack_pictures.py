"""Pictures of stacks and time series, read by Pillow and by a parser of HTML."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.write.parts import ArrayMask

from bmz.base.arrays import AnyArray
from bmz.image.pixels import Pixels
from bmz.write.result import Overview, Result
from bmz.write.stack_pictures import (
    _grid,
    _side_px,
    write_film,
    write_montage,
    write_projection,
    write_slices,
)

SIDE = 120
SKY_BLUE = [87, 181, 232]
"""The colour of label 1 where its number decides."""


@dataclass(frozen=True)
class Stack:
    """An image with labels, both with these axes."""

    axes: str
    image: AnyArray
    array: AnyArray
    name: str = "a.tif"
    record: Mapping[str, Any] = field(default_factory=lambda: {"request": {"overlay": "plain"}})

    @property
    def labels(self) -> ArrayMask:
        return ArrayMask(self.axes, self.array)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"image": self.name}

    def overview(self) -> Overview:
        return max(self.overviews(2048, {}), key=lambda plane: len(np.unique(plane.labels)))

    def overviews(self, _longest_px: int, only: Mapping[str, int]) -> Iterator[Overview]:
        loop = self.axes[:-2]
        for place in np.ndindex(self.array.shape[:-2]):
            at = dict(zip(loop, place, strict=True))
            if only.items() <= at.items():
                yield Overview(
                    Pixels(self.image[place], ("y", "x"), {"x": 1.0, "y": 1.0}),
                    Pixels(self.array[place], ("y", "x")),
                    at={a: (k, self.array.shape[loop.index(a)]) for a, k in at.items()},
                )

    def as_result(self) -> Result:
        return cast("Result", self)


def moving(axes: str, *counts: int) -> Stack:
    """Draw in each plane one square, label 1, farther right than in the plane before."""
    image = np.zeros((*counts, SIDE, SIDE), np.uint8)
    labels = np.zeros(image.shape, np.int32)
    for number, place in enumerate(np.ndindex(*counts)):
        left = 5 + number * 100 // int(np.prod(counts))
        image[place][40:60, left : left + 15] = 100 + number
        labels[place][40:60, left : left + 15] = 1
    return Stack(axes, image, labels)


def middle_of(picture: AnyArray) -> float:
    """Give where along x the outline lies, as a share of the width."""
    coloured = np.ptp(picture.astype(int), axis=-1) > 60
    return float(np.nonzero(coloured)[1].mean() / picture.shape[1])


def test_a_projection_shows_the_objects_of_all_planes(tmp_path: Path) -> None:
    stack = moving("zyx", 3)

    write_projection(stack.as_result(), tmp_path / "a.png")

    picture = np.asarray(Image.open(tmp_path / "a.png"))
    scale = picture.shape[1] / SIDE
    for left in (5, 38, 71):
        assert picture[int(50 * scale), int((left + 7) * scale)].min() > 200
    assert picture[int(50 * scale), int(30 * scale)].max() == 0


def test_a_montage_has_a_panel_for_each_plane_in_order(tmp_path: Path) -> None:
    stack = moving("tzyx", 2, 6)
    stack.array[1, 3, 100:110, 100:110] = 2  # this frame has most objects

    write_montage(stack.as_result(), tmp_path / "a.png")

    montage = np.asarray(Image.open(tmp_path / "a.png"))
    columns, _ = _grid(6, (SIDE, SIDE))
    rows = -(-6 // columns)
    height, width = (montage.shape[0] + 4) // rows, (montage.shape[1] + 4) // columns
    panels = [
        montage[k // columns * height :, k % columns * width :][: height - 4, : width - 4]
        for k in range(6)
    ]
    del panels[3]
    for number, panel in zip((6, 7, 8, 10, 11), panels, strict=True):
        assert middle_of(panel) == pytest.approx((5 + number * 100 // 12 + 7.5) / SIDE, abs=0.02)
    assert max(montage.shape) <= 2048


@pytest.mark.parametrize(("axes", "counts"), [("tyx", (5,)), ("zyx", (5,)), ("tzyx", (5, 2))])
def test_a_film_has_a_frame_for_each_point_in_time_else_for_each_plane(
    axes: str, counts: tuple[int, ...], tmp_path: Path
) -> None:
    write_film(moving(axes, *counts).as_result(), tmp_path / "a.webp")

    with Image.open(tmp_path / "a.webp") as film:
        assert cast("Any", film).n_frames == 5
        middles = []
        for k in range(5):
            film.seek(k)
            film.load()
            assert film.info["duration"] == 150
            middles.append(middle_of(np.asarray(film.convert("RGB"))))
    assert middles == sorted(middles)
    assert np.ptp(middles) > 0.5


def test_a_film_of_one_plane_is_a_picture(tmp_path: Path) -> None:
    write_film(moving("yx").as_result(), tmp_path / "a.webp")

    with Image.open(tmp_path / "a.webp") as film:
        assert film.size == (720, 720)


def page_of(stack: Stack, path: Path) -> tuple[str, Any, list[list[AnyArray]]]:
    """Give the page, what it says of its axes, and its pictures."""
    write_slices(stack.as_result(), path)
    page = path.read_text(encoding="utf-8")
    facts, planes = (
        json.loads(text)
        for text in re.findall(
            r'<script type="application/json".*?>(.*?)</script>', page, re.DOTALL
        )
    )
    pictures = [
        [np.asarray(Image.open(BytesIO(base64.b64decode(data)))) for data in pair]
        for pair in planes
    ]
    return page, facts, pictures


def test_a_page_holds_every_plane_and_asks_for_nothing(tmp_path: Path) -> None:
    page, facts, pictures = page_of(moving("tzyx", 2, 3), tmp_path / "a.html")

    assert facts["axes"] == {"t": 2, "z": 3}
    assert len(pictures) == 6
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@[A-Z]+@|src=|href=", page)
    for number, (shown, lines) in enumerate(pictures):
        assert shown.shape[:2] == lines.shape[:2]
        assert lines.shape[2] == 4
        along = np.nonzero(lines[..., 3])[1].mean() / lines.shape[1]
        assert along == pytest.approx((5 + number * 100 // 6 + 7.5) / SIDE, abs=0.02)


def test_a_page_of_one_plane_has_no_slider(tmp_path: Path) -> None:
    _, facts, pictures = page_of(moving("yx"), tmp_path / "a.html")

    assert facts == {"axes": {}, "start": {}}
    assert len(pictures) == 1


def test_the_name_of_an_image_cannot_end_the_title_of_its_page(tmp_path: Path) -> None:
    stack = moving("zyx", 2)
    named = Stack(stack.axes, stack.image, stack.array, "</title><script>@PLANES@.tif")

    page, _, pictures = page_of(named, tmp_path / "a.html")

    assert "</title><script>" not in page
    assert len(pictures) == 2


def test_an_object_keeps_its_colour_and_an_intensity_its_grey_in_all_planes(tmp_path: Path) -> None:
    stack = moving("zyx", 3)
    stack.image[..., 100:, :20] = 50
    stack.image[1, 100:, 60:] = 250  # by itself this plane would be shown darker
    stack.array[2, 40:60, 90:] = 2

    _, _, pictures = page_of(stack, tmp_path / "a.html")

    scale = pictures[0][0].shape[1] / SIDE
    greys = [int(shown[int(85 * scale) :, :, 0].max()) for shown, _ in pictures]
    corner = [int(shown[int(105 * scale), int(5 * scale), 0]) for shown, _ in pictures]
    assert max(corner) - min(corner) <= 4
    assert greys[1] == 255
    for (_, lines), left in zip(pictures, (5, 38, 71), strict=True):
        assert lines[int(50 * scale), int(left * scale) + 1].tolist()[:3] == SKY_BLUE


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 3000))
def test_pictures_of_many_planes_are_smaller(count: int, height: int, width: int) -> None:
    columns, side = _grid(count, (height, width))

    assert columns * -(-count // columns) >= count
    assert 96 <= _side_px(count, 30e6) <= 768
    assert count * _side_px(count, 30e6) ** 2 <= max(30e6, count * 96**2)
    assert side <= 512
