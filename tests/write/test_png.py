"""PNG that every reader reads."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bmz.base.arrays import AnyArray
from bmz.write.shown import png_bytes, write_png

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))


@given(hnp.arrays(np.uint8, SHAPES), st.integers(1, 5))
def test_pillow_reads_what_was_written(picture: AnyArray, factor: int) -> None:
    enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)

    with Image.open(BytesIO(png_bytes(enlarged))) as read:
        read.load()

        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), enlarged)


def test_an_enlarged_picture_takes_little_more_room_than_before() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    enlarged = picture.repeat(4, axis=0).repeat(4, axis=1)

    assert len(png_bytes(enlarged)) < 2.5 * len(png_bytes(picture))


def test_a_picture_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"older")

    write_png(path, np.full((2, 5, 3), 7, np.uint8))

    with Image.open(path) as read:
        assert read.size == (5, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
