"""Make pictures of the README and the docs: ``python -m docs.pictures``.

The image is the one that comes with bmz: nuclei of the 2018 Data Science Bowl, CC0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage.color import label2rgb

import bmz
from bmz.app.run import MODEL, demo_image
from bmz.base.arrays import AnyArray
from bmz.write.shown import write_png

FIRST_LOOK = Path(__file__).parent / "first-look.png"
NUMBERS = Path(__file__).parent / "how-to" / "numbers.png"

SIDE_PX, GAP_PX = 256, 8
"""Of each panel, and of the white between two."""


def first_look() -> AnyArray:
    """Put the same part of the bundled image, its label mask and its overlay side by side.

    Returns
    -------
    (y, x, 3) uint8
    """
    with bmz.load(MODEL) as model:
        result = model.run(demo_image())
    pixels = result.image.squeeze().to_numpy().astype(np.float32)
    low, high = np.percentile(pixels, (0.1, 99.9))
    grey = np.clip((pixels - low) / (high - low), 0, 1)[..., None].repeat(3, axis=-1)
    mask = label2rgb(np.asarray(result.labels), bg_label=0)
    panels = [(255 * grey).astype(np.uint8), (255 * mask).astype(np.uint8), result.overlay()]
    gap = np.full((SIDE_PX, GAP_PX, 3), 255, np.uint8)
    shown = [panel[:SIDE_PX, :SIDE_PX] for panel in panels]
    return np.concatenate([shown[0], gap, shown[1], gap, shown[2]], axis=1)


def numbers() -> AnyArray:
    """Draw a corner of the overlay of the bundled image, with the label on each object.

    Returns
    -------
    (y, x, 3) uint8
    """
    with bmz.load(MODEL) as model:
        picture = model.run(demo_image()).overlay(numbers=True)
    return np.ascontiguousarray(picture[: 3 * SIDE_PX // 2, : 2 * SIDE_PX])


PICTURES = {FIRST_LOOK: first_look, NUMBERS: numbers}
"""Where each is kept, and what draws it."""

if __name__ == "__main__":
    for path, draw in PICTURES.items():
        write_png(path, draw())
