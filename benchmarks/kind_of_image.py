"""Measure the CPU time that it takes to recognise the kind of an image.

``python benchmarks/kind_of_image.py``
"""

from __future__ import annotations

import time

import numpy as np
from scipy import ndimage as ndi

from bmz.check.kind import kind_of

SIDES = (256, 1024, 4096)
REPEATS = 5


def main() -> None:
    """Print a row for each size, in grey and in colour."""
    for side in SIDES:
        chance = np.random.default_rng(0)
        smooth = ndi.gaussian_filter(chance.random((side, side), np.float32), 8)
        grey = (smooth * 20_000 + chance.random((side, side)) * 200).astype(np.uint16)
        for name, image in (("grey", grey), ("colour", np.stack([grey, grey[::-1], grey.T], -1))):
            kind_of(image)  # reads the arrays
            started = time.process_time()
            for _ in range(REPEATS):
                kind_of(image)
            took_s = (time.process_time() - started) / REPEATS
            print(f"{side} x {side} {name}: {took_s:.3f} s")


if __name__ == "__main__":
    main()
