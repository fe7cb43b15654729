"""Panels with captions, plots and screens of a terminal, as small PNGs with a palette."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""(y, x, 3) red, green, blue."""

GAP_PX = 8
"""White between two panels."""

CAPTION_PX = 24

WHITE, BLACK, TEAL, RED, YELLOW = "#ffffff", "#222222", "#00796b", "#c62828", "#f9a825"

_FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
_COLOURS = 96
_SCREEN = "#1e1e2a", "#e6e6e6"
_LINE_PX, _LETTER_PX = 17, 14


def font(size_px: int, name: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    """Give a font that matplotlib carries, so that pictures are the same on every computer."""
    return ImageFont.truetype(_FONTS / f"{name}.ttf", size_px)


def write_small(path: Path, picture: Picture) -> None:
    """Write a picture with a palette, which takes a third of the space."""
    image = Image.fromarray(picture).quantize(_COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def read_small(path: Path) -> Picture:
    """Read a picture that `write_small` wrote."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def grey(plane: NDArray[np.generic]) -> Picture:
    """Show a plane from its 0.1th to its 99.9th percentile."""
    pixels = np.asarray(plane, np.float32)
    low, high = np.percentile(pixels, (0.1, 99.9))
    shown = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1)
    picture: Picture = (255 * shown[..., None].repeat(3, axis=-1)).astype(np.uint8)
    return picture


def coloured(labels: NDArray[np.integer]) -> Picture:
    """Give each object a colour of its own; the golden section keeps neighbours apart."""
    numbers = np.arange(1, int(labels.max()) + 1)
    hues = np.stack(
        [numbers * 0.618 % 1, 0.55 + 0.4 * (numbers % 2), np.ones(len(numbers))], axis=1
    )
    colours = np.concatenate([np.zeros((1, 3)), hsv_to_rgb(hues)])
    picture: Picture = (255 * colours[labels]).astype(np.uint8)
    return picture


def enlarged(picture: Picture, times: int) -> Picture:
    """Show each pixel as a square of `times` px."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def side_by_side(panels: Sequence[Picture], captions: Sequence[str] = ()) -> Picture:
    """Put panels of one height beside each other, with a caption below each."""
    height = panels[0].shape[0]
    gap = np.full((height, GAP_PX, 3), 255, np.uint8)
    row = np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)
    if not captions:
        return row
    image = Image.new("RGB", (row.shape[1], height + CAPTION_PX), WHITE)
    image.paste(Image.fromarray(row))
    draw, left = ImageDraw.Draw(image), 0
    for panel, caption in zip(panels, captions, strict=True):
        draw.text((left + 1, height + 5), caption, fill=BLACK, font=font(13))
        left += panel.shape[1] + GAP_PX
    return np.asarray(image)


def screen(lines: Sequence[str]) -> Picture:
    """Draw lines as a terminal shows them; commands, errors and warnings have their colours."""
    letters = font(_LETTER_PX, "DejaVuSansMono")
    wide = max(len(line) for line in lines)
    width = round(letters.getlength("x" * wide)) + 2 * GAP_PX
    image = Image.new("RGB", (width, _LINE_PX * len(lines) + 2 * GAP_PX), _SCREEN[0])
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        start = re.match(r"\s*(error|warning)(?=:)|\$ .*|", line)
        painted = start[0] if start else ""
        fill = {"e": "#ff6b6b", "w": "#ffd166", "$": "#7fd8be"}.get(painted.strip()[:1], WHITE)
        y = GAP_PX + _LINE_PX * number
        draw.text((GAP_PX, y), line, fill=_SCREEN[1], font=letters)
        draw.text((GAP_PX, y), painted, fill=fill, font=letters)
    return np.asarray(image)


def boxes(words: Sequence[tuple[str, str]], arrows: Sequence[str]) -> Picture:
    """Draw boxes from left to right, each with a title and lines, and arrows with a command."""
    wide, high, between = 176, 120, 176
    width = wide * len(words) + between * len(arrows) + 2 * GAP_PX
    image = Image.new("RGB", (width, high + 2 * GAP_PX), WHITE)
    draw = ImageDraw.Draw(image)
    for number, (title, text) in enumerate(words):
        left = GAP_PX + number * (wide + between)
        corner = (left, GAP_PX, left + wide, GAP_PX + high)
        draw.rounded_rectangle(corner, 8, outline=TEAL, width=2)
        draw.text((left + 10, GAP_PX + 10), title, fill=TEAL, font=font(14, "DejaVuSans-Bold"))
        draw.multiline_text((left + 10, GAP_PX + 36), text, fill=BLACK, font=font(12), spacing=5)
    for number, command in enumerate(arrows):
        left = GAP_PX + wide + number * (wide + between) + 6
        right, y = left + between - 12, GAP_PX + high // 2
        draw.line((left, y, right, y), fill=BLACK, width=2)
        draw.polygon([(right, y), (right - 9, y - 5), (right - 9, y + 5)], fill=BLACK)
        above = y - 5 - 15 * len(command.splitlines())
        draw.multiline_text((left + 2, above), command, fill=BLACK, font=font(11, "DejaVuSansMono"))
    return np.asarray(image)


def ring(picture: Picture, points: Sequence[tuple[float, float]], colour: str) -> Picture:
    """Draw a closed line through points (x, y)."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).line([*points, points[0]], fill=colour, width=2)
    return np.asarray(image)


def histogram(
    values: NDArray[np.floating], words: tuple[str, str], size: tuple[int, int]
) -> Picture:
    """Draw how often values come up, with their median; `words` say what they are, and its name."""
    width, height = size
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    counts, edges = np.histogram(values, bins=16)
    left, bottom, step = 30, height - 34, (width - 50) / len(counts)
    for number, count in enumerate(counts):
        x, y = left + number * step, bottom - (bottom - 24) * count / counts.max()
        draw.rectangle((x, y, x + step - 2, bottom), fill=TEAL)
    median = float(np.median(values))
    x = left + (median - edges[0]) / (edges[-1] - edges[0]) * step * len(counts)
    draw.line((x, 6, x, bottom), fill=RED, width=2)
    draw.text((x + 6, 4), words[1].format(median), fill=RED, font=font(13))
    for value, at in ((edges[0], left), (edges[-1], width - 46)):
        draw.text((at, bottom + 3), f"{value:.0f}", fill=BLACK, font=font(11))
    draw.text((left, height - 17), words[0], fill=BLACK, font=font(12))
    return np.asarray(image)
