"""Compute the pixels that a network processes per image pixel, by size and halo.

``python benchmarks/tile_pixels.py [--write FILE]`` runs no network. The sides of the tiles of each
image are chosen together, as in bmz, and for each axis separately, up to the usual side.
``--write`` writes the table between its marks in FILE.
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
"""Number of planes of a stack, and their height and width."""

Case = tuple[str, dict[str, int], list[AxisRule]]


def cases() -> Iterator[Case]:
    """Yield a name, the sizes of an image, and what a U-Net requires of them."""
    for side in SIDES:
        for halo in HALOS:
            rules = [AxisRule(axis, 64, 16, halo) for axis in "yx"]
            yield f"{side} px, halo {halo} px", dict.fromkeys("yx", side), rules
    for planes, side in STACKS:
        rules = [AxisRule("z", 8, 8, 4), *(AxisRule(axis, 64, 16, 16) for axis in "yx")]
        name = f"{planes} planes of {side} px, halo 4 and 16 px"
        yield name, {"z": planes, "y": side, "x": side}, rules


def words_of(tiling: Tiling) -> str:
    """Describe the tiles and the pixels."""
    size = " x ".join(map(str, tiling.tile.values()))
    return f"{tiling.count} of {size} px | {tiling.pixel_ratio:.2f}"


def main() -> None:
    """Plan, print, and write the table if requested."""
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
