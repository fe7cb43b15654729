"""Pixels that a network sees for one of the image, by size and halo; nothing is run.

``python benchmarks/tile_pixels.py [--write FILE]``. Of each image the sides of tiles are chosen
together, as bmz does it, and along each axis alone, the usual side at most. ``--write`` puts the
table between its marks in FILE.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from pages import write_between

from bmz.plan.tiling import AxisRule, Tiling, default_side, plan_tiles

MARKS = ("<!-- benchmarks/tile_pixels.py -->\n", "<!-- end of pixels -->\n")
HALOS = (16, 32, 64)
SIDES = (1024, 1388, 2048, 4096, 8192)
STACKS = ((32, 512), (64, 1024), (100, 1024))
"""Planes, and height and width of each."""

Case = tuple[str, dict[str, int], list[AxisRule]]


def cases() -> Iterator[Case]:
    """Yield a name, the sizes of an image, and what a U-Net asks of them."""
    for side in SIDES:
        for halo in HALOS:
            rules = [AxisRule(axis, 64, 16, halo) for axis in "yx"]
            yield f"{side} px, halo {halo} px", dict.fromkeys("yx", side), rules
    for planes, side in STACKS:
        rules = [AxisRule("z", 8, 8, 4), *(AxisRule(axis, 64, 16, 16) for axis in "yx")]
        name = f"{planes} planes of {side} px, halo 4 and 16 px"
        yield name, {"z": planes, "y": side, "x": side}, rules


def words_of(tiling: Tiling) -> str:
    """Name the tiles and the pixels."""
    size = " x ".join(map(str, tiling.tile.values()))
    return f"{tiling.count} of {size} px | {tiling.pixel_ratio:.2f}"


def main() -> None:
    """Plan, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = [
        "| image | tiles, each axis alone | pixels | tiles, chosen together | pixels |",
        "|---|---|---|---|---|",
    ]
    for name, shape, rules in cases():
        alone = plan_tiles(shape, rules, side=default_side(rules))
        together = plan_tiles(shape, rules)
        lines.append(f"| {name} | {words_of(alone)} | {words_of(together)} |")
    print(*lines, sep="\n")
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
