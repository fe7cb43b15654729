"""Read one region of an image file, for tests of its readers."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from bmz.image.info import ImageInfo
from bmz.image.region import open_image


def read_region(info: ImageInfo, slices: Mapping[str, slice]) -> xr.DataArray:
    with open_image(info) as image:
        return image.region(slices)
