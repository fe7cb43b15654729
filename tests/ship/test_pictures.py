"""The picture of the first pages shows what the code makes today."""

from __future__ import annotations

import numpy as np
import pytest
from docs.pictures import FIRST_LOOK, first_look

from bmz.image.pictures import png_pixels

pytest.importorskip("onnxruntime")

MOST_DIFFERENT = 0.01
"""Of the values; another processor may move an outline by a pixel."""


def test_the_first_picture_is_that_of_the_code() -> None:
    kept, made = png_pixels(FIRST_LOOK), first_look()

    assert kept.shape == made.shape
    assert np.mean(kept != made) <= MOST_DIFFERENT
