"""Pictures of the docs show what the code makes today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docs.pictures import PICTURES

from bmz.image.pictures import png_pixels

pytest.importorskip("onnxruntime")

MOST_DIFFERENT = 0.01
"""Of the values; another processor may move an outline by a pixel."""


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_that_of_the_code(path: Path) -> None:
    kept, made = png_pixels(path), PICTURES[path]()

    assert kept.shape == made.shape
    assert np.mean(kept != made) <= MOST_DIFFERENT
