"""Make the picture of the README and of the first page: ``python -m docs.pictures``.

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


if __name__ == "__main__":
    write_png(FIRST_LOOK, first_look())
