"""Read one region of an image file, for tests of its readers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.region import open_image


def read_region(info: ImageInfo, slices: Mapping[str, slice]) -> Pixels:
    with open_image(info) as image:
        return image.region(slices)


def assert_same(region: Pixels, expected: Pixels) -> None:
    """Compare pixels, axes, lengths and names."""
    np.testing.assert_array_equal(region, expected)
    assert region.dtype == expected.dtype
    assert region.axes == expected.axes
    assert region.pixel_um == expected.pixel_um
    assert region.channel_names == expected.channel_names
    assert region.colour == expected.colour
