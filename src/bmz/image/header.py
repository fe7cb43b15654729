"""What every format tells of an image before its pixels are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PixelSize:
    """What a file says about the length of a pixel.

    Parameters
    ----------
    um : length in um along z, y, x; unknown ones are left out
    source : where it comes from, such as ``"ImageJ"``; empty when `um` is
    odd : lengths that were read but cannot be meant, in words
    impossible : axis -> those of them that a microscope or a microscopist's program stated; the
        dots an inch of screens and printers are none of these
    magnification : of the objective, as it is engraved; None where it is not stated
    """

    um: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    odd: tuple[str, ...] = ()
    impossible: Mapping[str, str] = field(default_factory=dict)
    magnification: float | None = None


@dataclass(frozen=True)
class Header:
    """The facts of one image in the order of the file, without its alpha channel.

    Parameters
    ----------
    axes : one letter an axis of ``tczyx``, ``q`` for an unnamed one
    shape : one number a letter of `axes`
    dtype : of the pixels, in the byte order of this machine
    pixel : the length of a pixel
    channel_names : as many as channels, or none
    colour : red, green and blue of one photograph
    series_count : how many images the file holds
    remarks : what else one should know of the file, each a sentence
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel: PixelSize = field(default_factory=PixelSize)
    channel_names: tuple[str, ...] = ()
    colour: bool = False
    series_count: int = 1
    remarks: tuple[str, ...] = ()
